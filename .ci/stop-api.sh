#!/usr/bin/env bash
# Kills the API server of the cluster that .ci/cluster.sh started, and starts it again some time later.
# Usage: .ci/stop-api.sh CLUSTER_DIR CLUSTER_STATE SECONDS
set -euo pipefail
scripts=$1 state=$2
kill -9 "$(cat "$state/run/apiserver.pid")"
rm "$state/run/apiserver.pid" # up.sh would take one that nobody has reaped for a running one
sleep "$3"
"$scripts/up.sh" "$state" >/dev/null

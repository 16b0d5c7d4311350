#!/usr/bin/env bash
# Kills the API server of the cluster that .ci/cluster.sh started, and starts it again some time later.
# Usage: .ci/stop-api.sh CLUSTER_STATE SECONDS
set -euo pipefail
state=$1 seconds=$2
export PATH=$state/bin:$PATH KUBECONFIG=$state/admin.kubeconfig
pid=$(cat "$state/run/apiserver.pid")
mapfile -d '' -t command <"/proc/$pid/cmdline"
kill -9 "$pid"
sleep "$seconds"
setsid "${command[@]}" >>"$state/log/apiserver.log" 2>&1 </dev/null &
echo $! >"$state/run/apiserver.pid"
until kubectl get --raw=/readyz >/dev/null 2>&1; do sleep 0.2; done

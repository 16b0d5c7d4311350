#!/usr/bin/env bash
# An image of MinIO for a cluster that cannot pull one: its binary on the base image. Pushes it by the name given.
# Usage: .ci/minio-image.sh BINARY REFERENCE      ($BASE_IMAGE as for images/build.sh)
set -euo pipefail
binary=$1 reference=$2
container=$(buildah from "${BASE_IMAGE:-docker.io/library/python:3.11-slim}")
trap 'buildah rm "$container" >/dev/null' EXIT
buildah copy --quiet "$container" "$binary" /usr/local/bin/minio >/dev/null
buildah config --entrypoint '["minio"]' --cmd '' --user 1000:1000 "$container"
buildah commit --quiet "$container" "$reference" >/dev/null
buildah push --quiet --tls-verify=false "$reference" "docker://$reference"

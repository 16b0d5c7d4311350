#!/usr/bin/env bash
# Brings images that buildah has built onto the node, by the names that pods give them: load-images.sh NAME:TAG...
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
for image; do
    archive=$folder/${image//[:\/]/-}.tar
    buildah push --quiet "localhost/$image" "docker-archive:$archive:docker.io/library/$image"
    ctr --address "$CLUSTER_STATE/run/containerd.sock" --namespace k8s.io images import "$archive"
done

# The cluster for the tests marked `cluster`, from scripts outside this repository. Sourced by .ci/run.
# CLUSTER_DIR: the scripts; CLUSTER_STATE: where the cluster keeps its state. A running one is used as it is.
CLUSTER_DIR=${CLUSTER_DIR:-../shared/cluster}
CLUSTER_STATE=${CLUSTER_STATE:-/var/lib/hpo-cluster}
registry=localhost:5000
tag=ci-$(date +%s) # new each time: nodes keep the images of a tag that they know

cluster_prepare() { # all that takes long and needs no running cluster
    "$CLUSTER_DIR/install.sh" "$CLUSTER_STATE"
    "$CLUSTER_DIR/base-image.sh" "$CLUSTER_STATE"
    cluster_images
    command -v chromium >/dev/null || { apt-get update && apt-get install --yes chromium; } >/dev/null ||
        echo "there is no chromium, which the test in a browser needs"
}

cluster_images() { # [OPTION...] of images/build.sh
    local wheels=$CLUSTER_STATE/images/wheels # the CPU's torch: the one with CUDA has gigabytes
    local torch
    torch=$(sed -n 's/^ARG TORCH=//p' images/trial-pytorch/Dockerfile)
    compgen -G "$wheels/torch-$torch+cpu*" >/dev/null ||
        python3 -m pip download --quiet --no-deps --dest "$wheels" "torch==$torch+cpu"
    images/build.sh --tool buildah --tag "$tag" --wheels "$wheels" "$@"
}

cluster_up() { # and what the tests want to know of it
    export PATH=$CLUSTER_STATE/bin:$PATH KUBECONFIG=$CLUSTER_STATE/admin.kubeconfig
    if ! kubectl get --raw=/readyz >/dev/null 2>&1; then
        cluster_is_ours=yes
        cluster_forget
        cluster_start || cluster_start # a kubelet gives up where containerd is not there yet
    fi
    while cluster_volumes; do sleep 10; done &
    volumes=$!
    export ABOHB_TEST_REGISTRY=$registry ABOHB_TEST_TAG=$tag
    export ABOHB_TEST_MINIO_IMAGE=$registry/minio:$tag
    export ABOHB_TEST_FAKE_NODES="$CLUSTER_DIR/fake-nodes.sh" ABOHB_TEST_REQUIRED=1
    export CLUSTER_DIR CLUSTER_STATE ABOHB_TEST_LOAD="$PWD/.ci/load-images.sh"
    export ABOHB_TEST_STOP_API="$PWD/.ci/stop-api.sh $CLUSTER_STATE"
    cluster_images --push "$registry"
    .ci/minio-image.sh "$CLUSTER_STATE/bin/minio" "$ABOHB_TEST_MINIO_IMAGE"
}

cluster_forget() { # what a run that was cut off has left; its process ids may be those of others by now
    local file
    for file in "$CLUSTER_STATE"/run/*.pid; do
        if [ -e "$file" ] && ! grep -qsa "$(basename "$file" .pid)" "/proc/$(cat "$file")/cmdline"; then rm "$file"; fi
    done
    if [ ! -s "$CLUSTER_STATE/run/containerd.pid" ]; then rm -f "$CLUSTER_STATE/run/containerd.sock"; fi
    "$CLUSTER_DIR/down.sh" --wipe "$CLUSTER_STATE"
}

cluster_start() {
    "$CLUSTER_DIR/up.sh" "$CLUSTER_STATE" && sleep 3 && kill -0 "$(cat "$CLUSTER_STATE/run/kubelet.pid")"
}

cluster_volumes() { # they are folders of root's: open to the pods' user, and empty for those who come next
    local volume
    for volume in $(kubectl get pv --output=name); do
        local folder phase
        folder=$(kubectl get "$volume" --output=jsonpath='{.spec.hostPath.path}')
        phase=$(kubectl get "$volume" --output=jsonpath='{.status.phase}')
        case $phase in Released | Failed)
            rm -rf "$folder"
            kubectl patch "$volume" --type=merge --patch='{"spec": {"claimRef": null}}' >/dev/null ;;
        esac
        mkdir -p "$folder" && chmod 777 "$folder"
    done
}

cluster_down() {
    if [ -n "${volumes:-}" ]; then kill "$volumes" 2>/dev/null || true; fi
    if [ -n "${cluster_is_ours:-}" ]; then "$CLUSTER_DIR/down.sh" "$CLUSTER_STATE"; fi
}

#!/usr/bin/env bash
# Builds the images of this repository with docker or buildah, and pushes them by tag. Prints their names, one a line.
#
# images/build.sh [--push REGISTRY] [--tag TAG] [--insecure] [--tool docker|buildah] [--wheels DIR] [NAME...]
#   NAME         agent, controller, trial-digits, trial-pytorch, trial-shell; all of them if none is given
#   --push       where to push them: localhost:5000, ghcr.io/me, ... (log in with the tool first)
#   --tag        else the commit, as `git describe --always --dirty` says it
#   --insecure   the registry speaks HTTP or has no known certificate (buildah; localhost needs no word)
#   --tool       else docker where it runs, or buildah
#   --wheels     Python wheels that trial-pytorch takes before those of the package index, such as a torch for CPUs alone
#   $BASE_IMAGE  what they start from, else docker.io/library/python:3.11-slim
#   $TORCH       the version of torch in trial-pytorch, else the one that its Dockerfile names
#   $TORCH_INDEX one more package index for trial-pytorch: https://download.pytorch.org/whl/cpu is torch for CPUs alone
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."

die() { echo "images/build.sh: $*" >&2; exit 2; }

registry='' tag='' tool='' wheels='' verify=true names=()
while [ $# -gt 0 ]; do
    case $1 in
        --push | --tag | --tool | --wheels)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
                --push) registry=${2%/} ;;
                --tag) tag=$2 ;;
                --tool) tool=$2 ;;
                --wheels) wheels=$(cd "$here" && realpath "$2") ;;
            esac
            shift ;;
        --insecure) verify=false ;;
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
        -*) die "$1 is no option; see --help" ;;
        *) [ -f "images/$1/Dockerfile" ] || die "there is no images/$1/Dockerfile"; names+=("$1") ;;
    esac
    shift
done
if [ ${#names[@]} -eq 0 ]; then
    for file in images/*/Dockerfile; do file=${file%/Dockerfile}; names+=("${file#images/}"); done
fi
if [ -z "$tool" ]; then
    if docker info >/dev/null 2>&1; then tool=docker; else tool=buildah; fi
fi
[[ $tool =~ ^(buildah|docker)$ ]] || die "--tool is docker or buildah, got $tool"
command -v "$tool" >/dev/null || die "$tool is not there to build with; docker or buildah is needed"
: "${tag:=$(git describe --always --dirty 2>/dev/null || echo dev)}"
if [ -n "$wheels" ]; then
    compgen -G "$wheels/*.whl" >/dev/null || die "--wheels: there is no wheel in $wheels"
    lent=images/trial-pytorch/wheels # builds see nothing outside this repository
    trap 'rm -rf "$lent"' EXIT
    rm -rf "$lent"
    mkdir "$lent"
    cp "$wheels"/*.whl "$lent"
fi
[[ $registry =~ ^(localhost|127\.) ]] && verify=false
# In a chroot, builds work without privileges of their own, in containers too; these need no more.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

build() { # NAME REFERENCE
    local arguments=(--file "images/$1/Dockerfile" --tag "$2")
    if [ -n "${BASE_IMAGE:-}" ]; then arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE"); fi
    if [ "$1" = trial-pytorch ]; then
        if [ -n "${TORCH:-}" ]; then arguments+=(--build-arg "TORCH=$TORCH"); fi
        if [ -n "${TORCH_INDEX:-}" ]; then arguments+=(--build-arg "TORCH_INDEX=$TORCH_INDEX"); fi
    fi
    case $tool in
        buildah) buildah bud --layers "${arguments[@]}" . ;;
        docker) docker build "${arguments[@]}" . ;;
    esac
}

push() { # REFERENCE
    case $tool in
        buildah) buildah push --tls-verify=$verify "$1" "docker://$1" ;;
        docker) docker push "$1" ;;
    esac
}

for name in "${names[@]}"; do
    reference=${registry:+$registry/}abohb-$name:$tag
    build "$name" "$reference" >&2
    if [ -n "$registry" ]; then push "$reference" >&2; fi
    echo "$reference"
done

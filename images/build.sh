#!/usr/bin/env bash
# Builds the images of the four trainers and of the orchestrator and registry:
#   images/build.sh                      all
#   images/build.sh gesture-trainer      those named
# A certificate authority or pip configuration of this machine's own reaches the build as a secret, never an image:
# PIP_CERT, PIP_CONFIG_FILE and PIP_INDEX_URL are passed on, and the usual proxy variables.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

folder_of() {
    case $1 in
        gesture-trainer) echo gesture_trainer ;;
        sound-trainer) echo sound_trainer ;;
        speech-trainer) echo speech_context_trainer ;;
        visual-trainer) echo visual_environment_trainer ;;
        model-trainer) echo orchestrator ;;
        *) echo "no image is called $1; there are gesture-, sound-, speech-, visual- and model-trainer" >&2; exit 2 ;;
    esac
}

# A client that can build with BuildKit: one of before version 23 has it built in, later ones need the buildx plugin.
find_docker() {
    local client
    for client in ${DOCKER:-$(type -ap docker)}; do
        if [[ $("$client" --version 2>/dev/null) =~ version\ ([0-9]+) ]] &&
            { ((BASH_REMATCH[1] < 23)) || "$client" buildx version >/dev/null 2>&1; }; then
            echo "$client"
            return
        fi
    done
    echo "no docker client that can build with BuildKit; install docker-buildx (or docker-buildx-plugin)" >&2
    exit 2
}
docker=$(find_docker)
"$docker" version --format '{{.Server.Version}}' >/dev/null || { echo "no Docker engine answers" >&2; exit 2; }

options=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)")
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    if [[ -n ${!name-} ]]; then options+=(--build-arg "$name"); fi
done
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
if [[ -f ${PIP_CERT-} ]]; then options+=(--secret "id=ca.crt,src=$PIP_CERT"); fi
if [[ -f ${PIP_CONFIG_FILE-} ]]; then
    options+=(--secret "id=pip.conf,src=$PIP_CONFIG_FILE")
elif [[ -n ${PIP_INDEX_URL-} ]]; then
    printf '[global]\nindex-url = %s\n' "$PIP_INDEX_URL" >"$secrets/pip.conf"
    options+=(--secret "id=pip.conf,src=$secrets/pip.conf")
fi

if (($# == 0)); then set -- gesture-trainer sound-trainer speech-trainer visual-trainer model-trainer; fi
for image in "$@"; do
    folder=$(folder_of "$image")
    begun=$SECONDS
    echo "building $image"
    DOCKER_BUILDKIT=1 "$docker" build --quiet "${options[@]}" --tag "$image" --file "$folder/Dockerfile" . >/dev/null
    size=$("$docker" image inspect --format '{{.Size}}' "$image")
    echo "built $image: $((size / 1000000)) MB, $((SECONDS - begun)) s"
done

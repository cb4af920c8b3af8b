#!/usr/bin/env bash
# Finds podman, sees that it can run a container here, and that the base images are there.
#
#   docker/engine.sh           prints what to put before podman's arguments, or ends with 75 and the reason
#   docker/engine.sh --install the same, and installs what is missing from Debian's packages first
#
# Some machines need telling: a container runtime that knows their control groups, limits below the host's. Where that is so,
# the settings are written to a directory of their own; nothing in /etc is touched. Where no registry can be reached, the base
# images are made here, under their own names, from Debian's packages and this machine's Rust.
set -euo pipefail

home=${WEIR_CONTAINERS:-$HOME/.cache/weir/containers}
slim=docker.io/library/debian:bookworm-slim
rust=docker.io/library/rust:1.95-bookworm
own=$home/containers.conf
# Whether a registry is worth asking.
registry=yes

cannot() {
    echo "$1" >&2
    exit 75
}

install() {
    command -v podman >/dev/null && command -v debootstrap >/dev/null && command -v catatonit >/dev/null && return
    [ "$(id -u)" = 0 ] || { command -v podman >/dev/null && return; } || cannot "podman is not installed, and only root can install it"
    { apt-get update -q && apt-get install -qy --no-install-recommends podman buildah runc netavark aardvark-dns conmon catatonit debootstrap iproute2; } >&2 ||
        cannot "podman cannot be installed from this machine's packages"
}

# A file system for containers, made from packages where no registry answers.
debian() {
    podman image exists "$slim" && return
    timeout 60 podman pull -q "$slim" >/dev/null 2>&1 && return
    registry=no
    echo "no registry answers: making $slim from packages" >&2
    command -v debootstrap >/dev/null && [ "$(id -u)" = 0 ] || cannot "no registry answers, and without root and debootstrap no base image can be made"
    local root
    root=$(mktemp -d "$home/root.XXXXXX")
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >"$home/debootstrap.log" 2>&1 || cannot "debootstrap failed: see $home/debootstrap.log"
    # Package sources are reached as this machine reaches them.
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    cp -n /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/"
    if compgen -G '/etc/apt/sources.list.d/*.sources' >/dev/null; then
        rm -f "$root/etc/apt/sources.list"
        cp /etc/apt/sources.list.d/*.sources "$root/etc/apt/sources.list.d/"
    fi
    tar -C "$root" -c . | podman import -q -c 'CMD ["bash"]' - "$slim" >/dev/null
    rm -rf "$root"
}

builder() {
    podman image exists "$rust" && return
    [ $registry = no ] || { timeout 300 podman pull -q "$rust" >/dev/null 2>&1 && return; }
    echo "no registry answers: making $rust from packages and this machine's Rust" >&2
    local context
    context=$(mktemp -d "$home/rust.XXXXXX")
    mkdir "$context/rust"
    cp -a "$(rustc --print sysroot)"/{bin,lib} "$context/rust/"
    cp -L /etc/ssl/certs/ca-certificates.crt "$context/trusted.crt"
    cat >"$context/Dockerfile" <<DOCKERFILE
FROM $slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev make pkg-config ca-certificates && rm -rf /var/lib/apt/lists/*
COPY rust /usr/local/rust
COPY trusted.crt /usr/local/share/trusted.crt
ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/usr/local/cargo CARGO_HTTP_CAINFO=/usr/local/share/trusted.crt
DOCKERFILE
    podman build -q --network host --pull=never -t "$rust" "$context" >/dev/null || cannot "the builder's image cannot be made"
    rm -rf "$context"
}

# The smaller of this machine's limit and one that is enough, as podman writes a soft and a hard limit.
least() {
    local limit=$2
    [ "$1" = unlimited ] || [ "$1" -ge "$limit" ] || limit=$1
    echo "$limit:$limit"
}

runs() { podman run --rm --pull=never --network none "$slim" true >"$home/trial.log" 2>&1; }

[ "${1:-}" != --install ] || install
command -v podman >/dev/null || cannot "podman is not installed: on Debian, docker/engine.sh --install does it as root"
mkdir -p "$home"
debian
if ! runs; then
    cat >"$own" <<CONF
[containers]
default_ulimits = ["nofile=$(least "$(ulimit -Hn)" 20000)", "nproc=$(least "$(ulimit -Hu)" 32768)"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
    export CONTAINERS_CONF=$own
    runs || cannot "podman cannot run a container here: $(tail -1 "$home/trial.log")"
    echo "export CONTAINERS_CONF=$own"
fi
builder

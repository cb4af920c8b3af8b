#!/bin/sh
# Makes what cargo needs to build our dependencies and nothing of ours: every manifest, with empty sources beside it.
# Usage: manifests.sh FROM TO. As long as no manifest changes, its result is the same to the byte, and the image layer
# with the compiled dependencies is taken from the cache.
set -eu
from=$1
to=$2
mkdir -p "$to"
cp "$from/Cargo.toml" "$from/Cargo.lock" "$to/"
[ ! -f "$from/rust-toolchain.toml" ] || cp "$from/rust-toolchain.toml" "$to/"
cd "$from"
for manifest in */Cargo.toml; do
    member=${manifest%/Cargo.toml}
    mkdir -p "$to/$member"
    cp "$manifest" "$to/$member/"
    # Each target that the manifest or cargo's conventions name, so that the manifest is valid; tests are found, not named.
    find "$member" \( -path '*/src/lib.rs' -o -path '*/src/main.rs' -o -path '*/src/bin/*.rs' -o -path '*/benches/*.rs' \
        -o -name build.rs \) | while read -r source; do
        mkdir -p "$to/$(dirname "$source")"
        case $source in
            */lib.rs) : >"$to/$source" ;;
            *) echo 'fn main() {}' >"$to/$source" ;;
        esac
    done
done
find "$to" -exec touch -d @0 {} +

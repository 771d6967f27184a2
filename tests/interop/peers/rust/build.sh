#!/bin/sh
# Builds the peer into CACHE_DIR and prints, as a JSON array, the command that runs it.
set -eu
. "$(dirname "$0")/../building.sh"

built="$cache/rust-$(cat "$here/Cargo.toml" "$here/Cargo.lock" "$here"/src/*.rs | digest)"
if [ ! -x "$built/peer$exe" ]; then
    command -v cargo >/dev/null || missing cargo
    # One target directory for all versions of the source: only what changed is compiled again.
    target="$cache/rust-target"
    $calm cargo build --release --locked --jobs 2 --manifest-path "$here/Cargo.toml" --target-dir "$target" >&2
    mkdir -p "$built"
    cp "$target/release/interop-peer$exe" "$built/new$exe"
    mv "$built/new$exe" "$built/peer$exe"
fi

printf '["%s"]\n' "$built/peer$exe"

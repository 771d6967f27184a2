#!/bin/sh
# Builds the peer into CACHE_DIR and prints, as a JSON array, the command that runs it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh CACHE_DIR}"
cache=$(cd "$1" && pwd)

digest() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) exe=.exe ;;
    *) exe= ;;
esac

built="$cache/rust-$(cat "$here/Cargo.toml" "$here/Cargo.lock" "$here"/src/*.rs | digest)"
if [ ! -x "$built/peer$exe" ]; then
    command -v cargo >/dev/null || { echo "the toolchain is missing: cargo" >&2; exit 3; }
    # One target directory for all versions of the source: only what changed is compiled again.
    target="$cache/rust-target"
    if command -v nice >/dev/null; then calm="nice -n 10"; else calm=; fi
    $calm cargo build --release --locked --jobs 2 --manifest-path "$here/Cargo.toml" --target-dir "$target" >&2
    mkdir -p "$built"
    cp "$target/release/interop-peer$exe" "$built/new$exe"
    mv "$built/new$exe" "$built/peer$exe"
fi

printf '["%s"]\n' "$built/peer$exe"

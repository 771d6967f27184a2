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

built="$cache/go-$(cat "$here/go.mod" "$here/go.sum" "$here"/*.go | digest)"
if [ ! -x "$built/peer$exe" ]; then
    command -v go >/dev/null || { echo "the toolchain is missing: go" >&2; exit 3; }
    if command -v nice >/dev/null; then calm="nice -n 10"; else calm=; fi
    fresh=$(mktemp -d "$cache/go-new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    # Without cgo no C compiler is needed; nothing here gains by one.
    (cd "$here" && CGO_ENABLED=0 $calm go build -p 2 -mod=readonly -trimpath -buildvcs=false -o "$fresh/peer$exe" .) >&2
    mkdir -p "$built"
    mv "$fresh/peer$exe" "$built/peer$exe"
fi

printf '["%s"]\n' "$built/peer$exe"

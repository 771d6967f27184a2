#!/bin/sh
# Builds the peer into CACHE_DIR and prints, as a JSON array, the command that runs it.
set -eu
. "$(dirname "$0")/../building.sh"

built="$cache/go-$(cat "$here/go.mod" "$here/go.sum" "$here"/*.go | digest)"
if [ ! -x "$built/peer$exe" ]; then
    command -v go >/dev/null || missing go
    fresh=$(mktemp -d "$cache/go-new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    # Without cgo no C compiler is needed; nothing here gains by one.
    (cd "$here" && CGO_ENABLED=0 $calm go build -p 2 -mod=readonly -trimpath -buildvcs=false -o "$fresh/peer$exe" .) >&2
    mkdir -p "$built"
    mv "$fresh/peer$exe" "$built/peer$exe"
fi

printf '["%s"]\n' "$built/peer$exe"

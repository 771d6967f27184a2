#!/bin/sh
# Installs the peer into CACHE_DIR, bundles its page, and prints, as a JSON array, the command that runs it.
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

installed_browser() {
    for name in chromium chromium-browser google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        if found=$(command -v "$name") && "$found" --version >/dev/null 2>&1; then
            echo "$found"
            return
        fi
    done
    missing "chromium (or google-chrome)"
}

browser=$(installed_browser)
node=$(command -v node) || missing "node >= 20"
major=$("$node" -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || missing "node >= 20 (found $("$node" --version))"

modules="$cache/browser-$(cat "$here/package.json" "$here/package-lock.json" | digest)"
if [ ! -d "$modules/node_modules" ]; then
    command -v npm >/dev/null || missing "npm"
    fresh=$(mktemp -d "$cache/browser-new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here/package.json" "$here/package-lock.json" "$fresh"
    (cd "$fresh" && npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false) >&2
    mv "$fresh" "$modules" 2>/dev/null || [ -d "$modules/node_modules" ] # another build was first
fi

# Beside node_modules, so that imports find it. In `shared`: the commands and handlers of the js peer.
sources="$modules/$(cat "$0" "$here"/*.js "$here"/../js/*.js | digest)"
if [ ! -d "$sources" ]; then
    fresh=$(mktemp -d "$modules/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    mkdir "$fresh/shared"
    cp "$here"/*.js "$here/package.json" "$fresh"
    cp "$here"/../js/*.js "$fresh/shared"
    (cd "$fresh" && "$modules/node_modules/.bin/esbuild" page.js --bundle --outfile=bundle.js --log-level=warning \
        --inject:buffer.js --alias:node:crypto=./crypto.js) >&2
    mv "$fresh" "$sources" 2>/dev/null || [ -d "$sources" ]
fi

printf '["%s", "%s/main.js", "--browser", "%s"]\n' "$node" "$sources" "$browser"

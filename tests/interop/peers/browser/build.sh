#!/bin/sh
# Installs the peer into CACHE_DIR, bundles its page, and prints, as a JSON array, the command that runs it.
set -eu
. "$(dirname "$0")/../building.sh"

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

install_modules browser

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
    put_in_place "$fresh" "$sources"
fi

printf '["%s", "%s/main.js", "--browser", "%s"]\n' "$node" "$sources" "$browser"

#!/bin/sh
# Installs the kademlia package into an environment of its own in CACHE_DIR and prints, as a JSON array, the command that runs the peer.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh CACHE_DIR}"
cache=$(cd "$1" && pwd)

digest() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

# The interpreter that runs the tests, where there is one named: speeds are compared on the same Python.
python=${PYTHON:-$(command -v python3)} || { echo "the toolchain is missing: python3" >&2; exit 3; }
version=$("$python" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.version)') || {
    echo "the toolchain is missing: python >= 3.11" >&2
    exit 3
}

case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) bin=Scripts/python.exe ;;
    *) bin=bin/python ;;
esac

# An environment knows its own path, so it is made where it stays and marked when it is whole.
environment="$cache/kademlia-$({ echo "$version"; cat "$here/requirements.txt"; } | digest)"
if [ ! -f "$environment/installed" ]; then
    if command -v nice >/dev/null; then calm="nice -n 10"; else calm=; fi
    "$python" -m venv --clear "$environment" >&2
    $calm "$environment/$bin" -m pip install --quiet --requirement "$here/requirements.txt" >&2
    : >"$environment/installed"
fi

# Beside the environment, so that no bytecode is left among the sources.
sources="$environment/$(cat "$here"/*.py | digest)"
if [ ! -d "$sources" ]; then
    fresh=$(mktemp -d "$environment/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here"/*.py "$fresh"
    mv "$fresh" "$sources" 2>/dev/null || [ -d "$sources" ] # another build was first
fi

printf '["%s", "%s/main.py"]\n' "$environment/$bin" "$sources"

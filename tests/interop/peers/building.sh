# Sourced by every build.sh CACHE_DIR, which says what is in `here`, its own folder, and in `cache`.

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh CACHE_DIR}"
cache=$(cd "$1" && pwd)
if command -v nice >/dev/null; then calm="nice -n 10"; else calm=; fi

case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) exe=.exe scripts=Scripts ;;
    *) exe='' scripts=bin ;;
esac

digest() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-16
}

# missing WHAT: ends the build.
missing() {
    echo "the toolchain is missing: $1" >&2
    exit 3
}

# put_in_place FRESH PLACE: what was made beside goes where it belongs, unless another build was first.
put_in_place() {
    mv "$1" "$2" 2>/dev/null || { rm -rf "$1" && [ -d "$2" ]; }
}

# install_modules NAME: sets `modules`, a folder with the package's node_modules.
install_modules() {
    modules="$cache/$1-$(cat "$here/package.json" "$here/package-lock.json" | digest)"
    [ ! -d "$modules/node_modules" ] || return 0
    command -v npm >/dev/null || missing npm
    fresh=$(mktemp -d "$cache/$1-new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here/package.json" "$here/package-lock.json" "$fresh"
    (cd "$fresh" && $calm npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false) >&2
    put_in_place "$fresh" "$modules"
}

# install_python NAME: sets `python`, the interpreter of an environment with what requirements.txt asks for, and
# `sources`, the peer beside it, so that no bytecode is left here.
install_python() {
    # The interpreter that runs the tests, where there is one named: speeds are compared on the same Python.
    base=${PYTHON:-$(command -v python3)} || missing python3
    version=$("$base" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.version)') || missing "python >= 3.11"
    # An environment knows its own path, so it is made where it stays and marked when it is whole.
    environment="$cache/$1-$({ echo "$version"; cat "$here/requirements.txt"; } | digest)"
    python="$environment/$scripts/python$exe"
    if [ ! -f "$environment/installed" ]; then
        "$base" -m venv --clear "$environment" >&2
        $calm "$python" -m pip install --quiet --requirement "$here/requirements.txt" >&2
        : >"$environment/installed"
    fi
    sources="$environment/$(cat "$here"/*.py | digest)"
    [ ! -d "$sources" ] || return 0
    fresh=$(mktemp -d "$environment/new.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    cp "$here"/*.py "$fresh"
    put_in_place "$fresh" "$sources"
}

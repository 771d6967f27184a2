#!/bin/sh
# Our own peer: nothing to build, it runs in the interpreter that runs the tests.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
printf '["%s", "%s/main.py"]\n' "${PYTHON:-python3}" "$here"

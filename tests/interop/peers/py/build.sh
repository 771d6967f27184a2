#!/bin/sh
# Installs py-libp2p into an environment of its own in CACHE_DIR and prints, as a JSON array, the command that runs the peer.
set -eu
. "$(dirname "$0")/../building.sh"

install_python py
printf '["%s", "%s/main.py"]\n' "$python" "$sources"

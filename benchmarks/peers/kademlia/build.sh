#!/bin/sh
# Installs the kademlia package into an environment of its own in CACHE_DIR and prints, as a JSON array, the command that runs the peer.
set -eu
. "$(dirname "$0")/../../../tests/interop/peers/building.sh"

install_python kademlia
printf '["%s", "%s/main.py"]\n' "$python" "$sources"

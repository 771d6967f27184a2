"""yamux, complete: `/yamux/1.0.0`. Source: libp2p/specs, yamux; hashicorp/yamux spec.md.

`codec` is the 12-byte header, `stream_state` one stream's books, `machine` everything that changes them.
"""

from py_p2pstack.muxers.yamux.config import YamuxConfig as YamuxConfig
from py_p2pstack.muxers.yamux.machine import YamuxMachine as YamuxMachine

PROTOCOL = "/yamux/1.0.0"

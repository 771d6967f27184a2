"""mplex: `/mplex/6.7.0`, deprecated and off by default; for peers that have nothing else. Source: libp2p/specs, mplex.

It has no windows, no acknowledgements, no pings and no go-away. A stream nobody reads stops the whole connection for a
while and is then reset: there is no other way to bound what it holds.
"""

from py_p2pstack.muxers.mplex.config import MplexConfig as MplexConfig

PROTOCOL = "/mplex/6.7.0"

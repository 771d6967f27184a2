"""QUIC: `/udp/N/quic-v1`, which brings security and streams of its own. Needs the extra `quic`.

`machine` is a connection sans-IO: qh3's packet core with `tls`, made to authenticate both sides by libp2p's
certificates. `connection` and `stream` are what the swarm sees; `endpoint` shares one UDP socket (`sockets`) between
all of them, `codec` is what it reads and answers without a connection. `transport` dials, `listener` admits.
Source: libp2p/specs, quic and tls; RFC 9000, 9001, 9002.
"""

from py_p2pstack.transports.quic.config import QuicConfig as QuicConfig
from py_p2pstack.transports.quic.identity import QuicIdentity as QuicIdentity
from py_p2pstack.transports.quic.transport import QuicTransport as QuicTransport

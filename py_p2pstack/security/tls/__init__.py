"""TLS 1.3 as libp2p speaks it: `/tls/1.0.0`. Source: libp2p/specs, tls; RFC 8446.

`certificate` carries and proves identities, for QUIC too; `machine` runs the handshake on OpenSSL's memory buffers;
`records` is the transport phase.
"""

from py_p2pstack.security.tls.machine import TlsHandshake as TlsHandshake
from py_p2pstack.security.tls.machine import TlsTransport as TlsTransport
from py_p2pstack.security.tls.records import TlsRecords as TlsRecords

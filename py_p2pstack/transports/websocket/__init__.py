"""WebSocket: `/tcp/N/ws`, and inside web TLS `/tcp/N/tls/ws` or `/wss`; what browsers and HTTP proxies let through.

`address` reads such addresses, `machine` opens a WebSocket over HTTP, `codec` turns bytes into frames and back,
`web_tls` is the TLS of the web (certificates of the user's, not libp2p's), `connection` and `transport` do the I/O.
What libp2p secures and multiplexes lies inside, as over TCP. Needs the extra `ws`.
Source: libp2p/specs, websockets; RFC 6455.
"""

from py_p2pstack.transports.websocket.config import WebSocketConfig as WebSocketConfig
from py_p2pstack.transports.websocket.transport import WebSocketTransport as WebSocketTransport

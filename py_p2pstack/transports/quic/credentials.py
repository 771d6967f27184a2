"""Our identity as qh3 wants it, made once per transport."""

from __future__ import annotations

from py_p2pstack.transports.quic.identity import QuicIdentity
from py_p2pstack.transports.quic.tls import make_configuration


class Credentials:
    """What all connections of a transport share."""

    def __init__(self, identity: QuicIdentity) -> None:
        self.peer = identity.peer
        self.verify = identity.verify
        self.reset_key = identity.reset_key
        self.client = make_configuration(identity, client=True)
        self.server = make_configuration(identity, client=False)

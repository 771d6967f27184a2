"""Connected pipes, ready made, for tests of what runs over them."""

from __future__ import annotations

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.transports.memory import MemoryNetwork
from py_p2pstack.transports.memory_pipe import MemoryConnection, connection_pair


def raw_pair(
    network: MemoryNetwork | None = None, *, max_read: int | None = None, capacity: int = 128 * 1024
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two ends of an in-process connection, alice's (who dialled) and bob's.

    Without a `network` they hand bytes over at once: at most `capacity` unread each way, at most `max_read`
    bytes a read. Nodes are called `alice` and `bob` on the network given. Must be called inside a running
    event loop only if the network has delays.
    """
    if network is None:
        network = MemoryNetwork(max_read=max_read, capacity=capacity)
    local = Multiaddr.parse(f"/memory/{network.ephemeral_port()}")
    remote = Multiaddr.parse(f"/memory/{network.free_port()}")
    return connection_pair(network, "alice", "bob", local, remote)

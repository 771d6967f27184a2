"""Which of the addresses that peers see us at are worth telling others: those that enough strangers agree on.

An observation counts only while its connection lives, only for a local address we listen on, and once per observer
group (an IPv4 address, an IPv6 /56), so one liar with many connections is one voice. Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Hashable

from py_p2pstack.addresses import Multiaddr, ip_of, is_loopback, is_private, transport_of

ACTIVATION_THRESHOLD = 4  # go-libp2p observedaddrs: ActivationThresh
MAX_PER_LOCAL_ADDRESS = 3  # go-libp2p: maxExternalThinWaistAddrsPerLocalAddr
MAX_OBSERVATIONS = 4096  # ours: connections whose observation is remembered, the oldest going first
_IPV6_OBSERVER_BITS = 56


class ObservedAddresses:
    """Collects observations and tells the believed ones."""

    def __init__(self, *, threshold: int = ACTIVATION_THRESHOLD, max_observations: int = MAX_OBSERVATIONS) -> None:
        self._threshold = threshold
        self._max = max_observations
        self._by_connection: OrderedDict[Hashable, tuple[Multiaddr, Multiaddr, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_connection)

    def record(self, connection: Hashable, local: Multiaddr, remote: Multiaddr, observed: Multiaddr) -> None:
        """Note that the peer at `remote`, over `connection`, sees our `local` address as `observed`.

        Observations of or by loopback addresses, of private addresses by public peers, and of another transport than
        the connection's say nothing and are dropped.
        """
        if ip_of(observed) is None or ip_of(remote) is None or transport_of(observed) != transport_of(local):
            return
        if is_loopback(observed) or is_loopback(remote) or (is_private(observed) and not is_private(remote)):
            return
        self._by_connection[connection] = (local, observed, _observer_group(remote))
        self._by_connection.move_to_end(connection)
        if len(self._by_connection) > self._max:
            self._by_connection.popitem(last=False)

    def forget(self, connection: Hashable) -> None:
        """The connection ended."""
        self._by_connection.pop(connection, None)

    def believed(self) -> list[Multiaddr]:
        """Addresses seen by at least `threshold` observer groups, the best-seen three for each local address."""
        observers: defaultdict[tuple[Multiaddr, Multiaddr], set[str]] = defaultdict(set)
        for local, observed, group in self._by_connection.values():
            observers[local, observed].add(group)
        taken: Counter[Multiaddr] = Counter()
        result: dict[Multiaddr, None] = {}
        for (local, observed), groups in sorted(observers.items(), key=lambda item: (-len(item[1]), str(item[0][1]))):
            if len(groups) >= self._threshold and taken[local] < MAX_PER_LOCAL_ADDRESS:
                taken[local] += 1
                result[observed] = None
        return list(result)


def _observer_group(remote: Multiaddr) -> str:
    ip = ip_of(remote)
    assert ip is not None
    if ip.version == 6:
        return f"{int(ip) >> (128 - _IPV6_OBSERVER_BITS):x}/56"
    return str(ip)

"""Addresses by peer, each with a lifetime, and the signed records they were told in.

Addresses of live connections (`CONNECTED_TTL`) have no end and are not counted against the bound on all
addresses: the limits on connections bound them. All others are; when that bound is reached, what expires
soonest makes room, unless the newcomer would expire sooner still: hearsay (2 min) never drives out what we
saw with our own eyes (15 min). The same rule holds inside one peer's addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

from py_p2pstack.addresses import Multiaddr, parse_bytes
from py_p2pstack.core.peerstore import CONNECTED_TTL, PERMANENT_TTL
from py_p2pstack.errors import InvalidAddress, RecordError
from py_p2pstack.identity import Envelope, PeerId, PeerRecord
from py_p2pstack.peerstore.config import PeerstoreConfig
from py_p2pstack.peerstore.peer_map import PeerMap

_SEARCH = 8  # addresses of connected peers passed over in one search for a victim
_SLACK = 64  # void heap items suffered beyond as many as are valid
_UNSCHEDULED = -1
_RECORD_OVERHEAD = 256  # bytes a record costs beside its payload and signature


class _Entry:
    __slots__ = ("address", "due", "expires", "token", "ttl")

    def __init__(self, address: Multiaddr, ttl: float, expires: float) -> None:
        self.address = address
        self.ttl = ttl
        self.expires = expires
        self.due = 0.0
        """When the heap looks at it again: never later than `expires`."""
        self.token = _UNSCHEDULED
        """Which heap item stands for it; all others are void."""


@dataclass(frozen=True, slots=True)
class _Record:
    envelope: Envelope
    seq: int
    addresses: frozenset[Multiaddr]


class AddressBook:
    """Implements `core.peerstore.AddressBook`. `clock` tells monotonic time in seconds."""

    __slots__ = ("_clock", "_config", "_heap", "_peers", "_records", "_tokens", "_unconnected")

    def __init__(self, config: PeerstoreConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._peers: dict[PeerId, dict[Multiaddr, _Entry]] = {}
        self._unconnected = 0
        self._heap: list[tuple[float, int, PeerId, _Entry]] = []
        self._tokens = count()
        self._records: PeerMap[_Record] = PeerMap(
            config.max_signed_records, config.max_signed_record_bytes, spare=self.is_connected
        )

    def __len__(self) -> int:
        """How many addresses count against the bound on all, expired ones included until collected."""
        return self._unconnected

    @property
    def signed_records(self) -> int:
        """How many signed records are held."""
        return len(self._records)

    # --- reading ------------------------------------------------------------------------------------

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """The unexpired addresses, best-lived first."""
        book = self._peers.get(peer)
        if book is None:
            return []
        now = self._clock()
        live = [entry for entry in book.values() if entry.expires > now]
        if len(live) > 1:
            live.sort(key=_by_expiry, reverse=True)
        return [entry.address for entry in live]

    def peers(self) -> list[PeerId]:
        """The peers with an unexpired address."""
        now = self._clock()
        return [peer for peer, book in self._peers.items() if any(entry.expires > now for entry in book.values())]

    def is_connected(self, peer: PeerId) -> bool:
        """Whether an address of the peer is one of a live connection."""
        book = self._peers.get(peer)
        return book is not None and any(entry.ttl == CONNECTED_TTL for entry in book.values())

    def peer_record(self, peer: PeerId) -> Envelope | None:
        """The newest signed record; it is forgotten with the last of the peer's addresses."""
        record = self._records.get(peer)
        return record.envelope if record is not None and self.addresses(peer) else None

    # --- writing ------------------------------------------------------------------------------------

    def add_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float) -> None:
        """Add, or lengthen the life of, addresses. Never shortens a life.

        A `/p2p` part is taken off; an address of another peer is dropped.
        """
        if ttl <= 0:
            return
        now = self._clock()
        self.collect(now)
        expires = now + ttl
        for address in _own(peer, addresses):
            entry = self._peers.get(peer, {}).get(address)
            if entry is None:
                self._insert(peer, address, ttl, expires)
            else:
                self._change(peer, entry, max(entry.ttl, ttl), max(entry.expires, expires))

    def set_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float) -> None:
        """Like add, but the given `ttl` replaces the old one; 0 removes."""
        now = self._clock()
        self.collect(now)
        for address in _own(peer, addresses):
            entry = self._peers.get(peer, {}).get(address)
            if entry is None:
                if ttl > 0:
                    self._insert(peer, address, ttl, now + ttl)
            elif ttl > 0:
                self._change(peer, entry, ttl, now + ttl)
            else:
                self._delete(peer, entry)

    def update_ttl(self, peer: PeerId, old_ttl: float, new_ttl: float) -> None:
        """Give all addresses that were added with `old_ttl` the life `new_ttl`, from now; 0 removes them."""
        book = self._peers.get(peer)
        if book is None:
            return
        now = self._clock()
        for entry in [entry for entry in book.values() if entry.ttl == old_ttl]:
            if new_ttl > 0:
                self._change(peer, entry, new_ttl, now + new_ttl)
            else:
                self._delete(peer, entry)

    def clear_addresses(self, peer: PeerId) -> None:
        """Forget the peer's addresses and its signed record."""
        for entry in list(self._peers.get(peer, {}).values()):
            self._delete(peer, entry)

    def consume_peer_record(self, envelope: Envelope, ttl: float) -> bool:
        """Take in a signed peer record: verified, and no older than the one held (by seq).

        Addresses that the record held before named and this one does not are forgotten, but for those of live
        connections: the peer has moved. Whether the record's peer is whom you talk to is yours to check.

        Returns:
            Whether it was taken: False for an older one, and for one without an address that may be kept.

        Raises:
            RecordError: the record is forged, malformed or too large.
        """
        size = len(envelope.payload) + len(envelope.signature)
        if size > self._config.max_signed_record_size:
            limit = self._config.max_signed_record_size
            raise RecordError(f"a signed record of {size} bytes; the limit is {limit}")
        record = self._read(envelope)
        peer = envelope.public_key.peer_id()
        held = self._records.get(peer)
        if ttl <= 0 or (held is not None and held.seq > record.seq):
            return False
        if held is not None:
            book = self._peers.get(peer, {})
            for address in held.addresses - record.addresses:
                entry = book.get(address)
                if entry is not None and entry.ttl != CONNECTED_TTL:
                    self._delete(peer, entry)
        self.add_addresses(peer, record.addresses, ttl)
        if not self.addresses(peer):
            return False
        self._records.put(peer, record, size + _RECORD_OVERHEAD)
        return True

    def collect(self, now: float, limit: int | None = None) -> int:
        """Clear away at most `limit` expired addresses (the config's bound by default); returns how many."""
        heap = self._heap
        removed = 0
        for _ in range(self._config.collected_per_call if limit is None else limit):
            if not heap or heap[0][0] > now:
                break
            _, token, peer, entry = heappop(heap)
            if entry.token != token:
                continue
            if entry.expires > now:  # its life was lengthened since it was scheduled
                self._schedule(peer, entry)
            else:
                self._delete(peer, entry)
                removed += 1
        return removed

    # --- one entry ----------------------------------------------------------------------------------

    def _read(self, envelope: Envelope) -> _Record:
        """The verified content; a record we hold already is not verified again."""
        held = self._records.get(envelope.public_key.peer_id())
        if held is not None and (held.envelope.signature, held.envelope.payload) == (
            envelope.signature,
            envelope.payload,
        ):
            return held
        record = PeerRecord.open(envelope)
        addresses = []
        for data in record.addresses:
            try:
                addresses.append(parse_bytes(data))
            except InvalidAddress:
                continue  # of a kind we do not know, or broken: the others may do
        own = list(_own(record.peer_id, addresses))[: self._config.max_addresses_per_peer]
        return _Record(envelope, record.seq, frozenset(own))

    def _insert(self, peer: PeerId, address: Multiaddr, ttl: float, expires: float) -> None:
        if not self._make_room_in(peer, expires):
            return
        if ttl != CONNECTED_TTL and not self._make_room(expires):
            return
        entry = _Entry(address, ttl, expires)
        self._peers.setdefault(peer, {})[address] = entry
        if ttl != CONNECTED_TTL:
            self._unconnected += 1
            self._schedule(peer, entry)

    def _change(self, peer: PeerId, entry: _Entry, ttl: float, expires: float) -> None:
        was_connected = entry.ttl == CONNECTED_TTL
        connected = ttl == CONNECTED_TTL
        if was_connected and not connected:
            if not self._make_room(expires):
                self._delete(peer, entry)
                return
            self._unconnected += 1
        elif connected and not was_connected:
            self._unconnected -= 1
            entry.token = _UNSCHEDULED
        entry.ttl = ttl
        entry.expires = expires
        if not connected and (entry.token == _UNSCHEDULED or expires < entry.due):
            self._schedule(peer, entry)

    def _delete(self, peer: PeerId, entry: _Entry) -> None:
        if entry.ttl != CONNECTED_TTL:
            self._unconnected -= 1
        entry.token = _UNSCHEDULED
        book = self._peers[peer]
        del book[entry.address]
        if not book:
            del self._peers[peer]
            self._records.pop(peer)

    def _schedule(self, peer: PeerId, entry: _Entry) -> None:
        if entry.ttl == PERMANENT_TTL:
            entry.token = _UNSCHEDULED
            return
        entry.due = entry.expires
        entry.token = next(self._tokens)
        heappush(self._heap, (entry.due, entry.token, peer, entry))
        if len(self._heap) > 2 * self._unconnected + _SLACK:
            self._heap = [item for item in self._heap if item[3].token == item[1]]
            heapify(self._heap)

    # --- room ---------------------------------------------------------------------------------------

    def _make_room_in(self, peer: PeerId, expires: float) -> bool:
        """Whether the peer has room for an address that lives until `expires`, if need be made for it."""
        book = self._peers.get(peer)
        if book is None or len(book) < self._config.max_addresses_per_peer:
            return True
        victim = min((entry for entry in book.values() if entry.ttl != CONNECTED_TTL), key=_by_expiry, default=None)
        if victim is None or victim.expires > expires:
            return False
        self._delete(peer, victim)
        return True

    def _make_room(self, expires: float) -> bool:
        """Whether there is room for one more address that lives until `expires`, if need be made for it."""
        if self._unconnected < self._config.max_unconnected_addresses:
            return True
        heap = self._heap
        passed: list[tuple[float, int, PeerId, _Entry]] = []
        room = False
        while heap and len(passed) < _SEARCH:
            item = heappop(heap)
            _, token, peer, entry = item
            if entry.token != token:
                continue
            if entry.expires > entry.due:  # its life was lengthened since it was scheduled
                self._schedule(peer, entry)
                continue
            if entry.expires > expires:
                passed.append(item)
                break
            if self.is_connected(peer):
                passed.append(item)
                continue
            self._delete(peer, entry)
            room = True
            break
        for item in passed:
            heappush(heap, item)
        return room


def _by_expiry(entry: _Entry) -> float:
    return entry.expires


def _own(peer: PeerId, addresses: Iterable[Multiaddr]) -> Iterable[Multiaddr]:
    """The addresses that may be the peer's, without their `/p2p` part."""
    for address in addresses:
        named = address.peer_id()
        if named is None:
            yield address
        elif named == peer:
            bare = address.without_peer()
            if len(bare):
                yield bare

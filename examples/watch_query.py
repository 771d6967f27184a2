"""Watching a lookup: every step as it happens, and afterwards again from what was saved of it."""

import anyio

from py_p2pstack import Dht, DhtConfig, Host
from py_p2pstack.protocols.dht import LookupEnded, PeerResponse, QueryEvent
from py_p2pstack.protocols.dht.trace import load, to_line

LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]


async def main() -> None:
    quiet = DhtConfig(auto_refresh=False)  # carol knows the hub alone, so that there is something to look up
    saved: list[str] = []

    def on_event(event: QueryEvent) -> None:
        print(event)
        saved.append(to_line(event))

    async with (
        Host(listen=LOOPBACK) as hub, Dht(hub, quiet),
        Host(listen=LOOPBACK) as bob, Dht(bob, quiet),
        Host(listen=LOOPBACK) as carol, Dht(carol, quiet) as carols_dht,
    ):  # fmt: skip
        await bob.connect(hub.peer_info)
        await carol.connect(hub.peer_info)
        await carols_dht.get_closest_peers(b"/v/greeting", on_event=on_event)

    print(f"\nreplayed from {len(saved)} lines of JSON:")
    for event in load(saved):
        if isinstance(event, PeerResponse):
            print(
                f"  …{str(event.peer)[-6:]} answered in {event.rtt * 1e3:.1f} ms, telling of {len(event.closer)} peers"
            )
        elif isinstance(event, LookupEnded):
            print(f"  {event.reason.value} after {event.at * 1e3:.1f} ms")


anyio.run(main)

"""A key/value store over a network of three: what one puts, another gets."""

import anyio

from py_p2pstack import Dht, Host

LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]


async def main() -> None:
    async with (
        Host(listen=LOOPBACK) as alice, Dht(alice) as store,
        Host(listen=LOOPBACK) as bob, Dht(bob),
        Host(listen=LOOPBACK) as carol, Dht(carol) as carols_store,
    ):  # fmt: skip
        for newcomer in (carol, alice):
            await newcomer.connect(bob.peer_info)
        await store.bootstrap()

        result = await store.put_value("/v/greeting", b"hello")
        print(f"kept by {len(result.replicas)} of {len(result.asked)} peers")
        print(await carols_store.get_value("/v/greeting"))


anyio.run(main)

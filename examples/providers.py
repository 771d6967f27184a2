"""Content that somebody has: two nodes tell that they provide it, a third one finds them and fetches it from one."""

import base64
import hashlib

import anyio

from py_p2pstack import Dht, Host, Stream

LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]
FETCH = "/fetch-a-file/1.0.0"
CONTENT = b"the content of a file"


def cid_of(data: bytes) -> str:
    """The CIDv1 of raw bytes: version 1, codec raw, SHA-256, in base32."""
    multihash = b"\x12\x20" + hashlib.sha256(data).digest()
    return "b" + base64.b32encode(b"\x01\x55" + multihash).decode().rstrip("=").lower()


async def give_content(stream: Stream) -> None:
    await stream.send(CONTENT)


async def main() -> None:
    cid = cid_of(CONTENT)
    async with (
        Host(listen=LOOPBACK) as hub, Dht(hub),
        Host(listen=LOOPBACK) as alice, Dht(alice) as alices_dht,
        Host(listen=LOOPBACK) as bob, Dht(bob) as bobs_dht,
        Host() as carol, Dht(carol) as carols_dht,
    ):  # fmt: skip
        for host in (alice, bob, carol):
            await host.connect(hub.peer_info)
        for host, dht in ((alice, alices_dht), (bob, bobs_dht)):
            host.set_stream_handler(FETCH, give_content)
            result = await dht.provide(cid)
            print(f"…{str(host.id)[-6:]} told {len(result.told)} peers that it provides {cid}")

        async with carols_dht.find_providers(cid) as providers:
            async for provider in providers:
                print(f"found …{str(provider.peer_id)[-6:]} at {provider.addresses[0]}")
        await carol.connect(provider)
        async with await carol.new_stream(provider.peer_id, FETCH) as stream:
            data = await stream.receive_exactly(len(CONTENT))
        print(f"fetched {data!r}; it is what the CID names: {cid_of(data) == cid}")


anyio.run(main)

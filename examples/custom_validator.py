"""A namespace of our own: every node checks what it is given, and knows which of two values is the better one.

Keys are `/score/<player>`, values a number in decimal; the highest one wins, whoever puts it.
"""

from collections.abc import Sequence

import anyio

from py_p2pstack import Dht, DhtConfig, Host
from py_p2pstack.errors import InvalidRecord
from py_p2pstack.protocols.dht.validators import Validators

LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]


class HighScore:
    """Pure functions of their arguments: `now` is given for records that expire."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        if not (value.isdigit() and len(value) <= 9):
            raise InvalidRecord("a score is a number of at most nine digits")

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        return max(range(len(values)), key=lambda index: int(values[index]))


async def main() -> None:
    config = DhtConfig(prefix="/scores", validator=Validators({"score": HighScore()}))
    async with (
        Host(listen=LOOPBACK) as alice, Dht(alice, config) as alices_dht,
        Host(listen=LOOPBACK) as bob, Dht(bob, config) as bobs_dht,
    ):  # fmt: skip
        await alice.connect(bob.peer_info)

        await alices_dht.put_value("/score/alice", b"120")
        print(f"bob reads {(await bobs_dht.get_value('/score/alice')).decode()}")

        for refused in (b"a lot", b"90"):  # no number; not better than what is there
            try:
                await alices_dht.put_value("/score/alice", refused)
            except InvalidRecord as fault:
                print(f"{refused!r} is refused: {fault}")

        await alices_dht.put_value("/score/alice", b"150")
        print(f"bob reads {(await bobs_dht.get_value('/score/alice')).decode()}")


anyio.run(main)

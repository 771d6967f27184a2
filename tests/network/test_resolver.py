"""Names in addresses: from tables, and from a real name server on this machine."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from anyio.abc import SocketAttribute, SocketStream

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ResolutionError
from py_p2pstack.identity import PrivateKey
from py_p2pstack.network import dns_lookup
from py_p2pstack.network.dns_lookup import DnsLookup, parse_hosts
from py_p2pstack.network.resolver import AddressResolver, DnsResolver, Resolver, ResolverConfig, StaticResolver
from py_p2pstack.testing.virtual_time import run

pytestmark = pytest.mark.anyio

ALICE, BOB = (PrivateKey.from_seed(bytes([index]) * 32).public_key.peer_id() for index in (1, 2))


async def resolve(resolver: Resolver, text: str) -> list[str]:
    return [str(address) for address in await resolver.resolve(Multiaddr.parse(text))]


def zones(**texts: Sequence[str]) -> dict[str, list[str]]:
    """TXT records of `_dnsaddr.<name>.test`, without their prefix."""
    return {f"_dnsaddr.{name}.test": [f"dnsaddr={value}" for value in values] for name, values in texts.items()}


# --- the rules, from tables ---------------------------------------------------------------------------


async def test_an_address_without_a_name_is_returned_as_it_is() -> None:
    assert await resolve(StaticResolver(), "/ip4/1.2.3.4/tcp/1") == ["/ip4/1.2.3.4/tcp/1"]


async def test_names_become_addresses_of_the_family_asked_for() -> None:
    resolver = StaticResolver(addresses={"a.test": ["1.2.3.4", "2001:db8::1", "5.6.7.8"]})
    four = ["/ip4/1.2.3.4/tcp/1", "/ip4/5.6.7.8/tcp/1"]
    six = ["/ip6/2001:db8::1/tcp/1"]
    assert await resolve(resolver, "/dns4/a.test/tcp/1") == four
    assert await resolve(resolver, "/dns6/a.test/tcp/1") == six
    assert await resolve(resolver, "/dns/a.test/tcp/1") == four + six


async def test_what_stands_behind_the_name_is_kept() -> None:
    resolver = StaticResolver(addresses={"a.test": ["1.2.3.4"]})
    behind = f"/tcp/443/tls/sni/b.test/ws/p2p/{ALICE}"
    assert await resolve(resolver, f"/dns4/a.test{behind}") == [f"/ip4/1.2.3.4{behind}"]


async def test_a_zone_lists_addresses_and_refers_on_and_order_is_kept() -> None:
    resolver = StaticResolver(
        addresses={"host.test": ["9.9.9.9"]},
        texts=zones(
            top=["/ip4/1.1.1.1/tcp/1", "/dnsaddr/sub.test", "/dns4/host.test/tcp/3", "/ip4/4.4.4.4/tcp/4"],
            sub=["/ip4/2.2.2.2/tcp/2"],
        ),
    )
    assert await resolve(resolver, "/dnsaddr/top.test") == [
        "/ip4/1.1.1.1/tcp/1",
        "/ip4/2.2.2.2/tcp/2",
        "/ip4/9.9.9.9/tcp/3",
        "/ip4/4.4.4.4/tcp/4",
    ]


async def test_only_addresses_of_the_peer_asked_for_are_taken_from_a_zone() -> None:
    texts = zones(
        top=[
            f"/ip4/1.1.1.1/tcp/1/p2p/{ALICE}",
            f"/ip4/2.2.2.2/tcp/1/p2p/{BOB}",
            "/ip4/3.3.3.3/tcp/1",
            f"/dnsaddr/alice.test/p2p/{ALICE}",
            f"/dnsaddr/bob.test/p2p/{BOB}",
        ],
        alice=[f"/ip4/4.4.4.4/tcp/1/p2p/{ALICE}", f"/ip4/5.5.5.5/tcp/1/p2p/{BOB}"],
    )
    assert await resolve(StaticResolver(texts=texts), f"/dnsaddr/top.test/p2p/{ALICE}") == [
        f"/ip4/1.1.1.1/tcp/1/p2p/{ALICE}",
        f"/ip4/4.4.4.4/tcp/1/p2p/{ALICE}",
    ]


async def test_records_that_are_no_addresses_are_skipped() -> None:
    texts = {
        "_dnsaddr.a.test": [
            "v=spf1 -all",
            "dnsaddr=",
            "dnsaddr=nonsense",
            "dnsaddr=/ip4/1.2.3/tcp/1",
            "DNSADDR=/ip4/1.1.1.1/tcp/1",
            "dnsaddr=/ip4/2.2.2.2/tcp/1",
        ]
    }
    assert await resolve(StaticResolver(texts=texts), "/dnsaddr/a.test") == ["/ip4/2.2.2.2/tcp/1"]
    with pytest.raises(ResolutionError, match="no usable addresses"):
        await resolve(StaticResolver(addresses={"a.test": ["999.1.1.1"]}), "/dns4/a.test/tcp/1")


async def test_unknown_names_are_a_typed_error() -> None:
    for text in ("/dns/no.test/tcp/1", "/dns4/no.test/tcp/1", "/dnsaddr/no.test"):
        with pytest.raises(ResolutionError, match=r"cannot resolve .*no\.test.*: no usable addresses"):
            await resolve(StaticResolver(), text)


async def test_zones_that_refer_to_each_other_end() -> None:
    texts = zones(a=["/dnsaddr/b.test", "/ip4/1.1.1.1/tcp/1"], b=["/dnsaddr/a.test", "/dnsaddr/b.test"])
    assert await resolve(StaticResolver(texts=texts), "/dnsaddr/a.test") == ["/ip4/1.1.1.1/tcp/1"]


async def test_zones_may_refer_on_only_so_many_times() -> None:
    texts = zones(**{f"z{index}": [f"/dnsaddr/z{index + 1}.test", f"/ip4/1.1.1.{index}/tcp/1"] for index in range(9)})
    found = await resolve(StaticResolver(texts=texts), "/dnsaddr/z0.test")
    assert sorted(found) == [f"/ip4/1.1.1.{index}/tcp/1" for index in range(4)]
    only_deeper = zones(**{f"z{index}": [f"/dnsaddr/z{index + 1}.test"] for index in range(9)})
    with pytest.raises(ResolutionError, match="refers on more than 4 times"):
        await resolve(StaticResolver(texts=only_deeper), "/dnsaddr/z0.test")


async def test_results_are_bounded() -> None:
    many = [f"/ip4/1.1.{index // 250}.{index % 250}/tcp/1" for index in range(500)]
    resolver = StaticResolver(texts=zones(a=many), config=ResolverConfig(max_results=100))
    assert await resolve(resolver, "/dnsaddr/a.test") == many[:100]
    hosts = StaticResolver(addresses={"a.test": [f"1.1.1.{index}" for index in range(200)]})
    assert len(await resolve(hosts, "/dns4/a.test/tcp/1")) == 100
    fan = zones(a=[f"/dnsaddr/b{index}.test" for index in range(5)], **{f"b{index}": many for index in range(5)})
    assert len(await resolve(StaticResolver(texts=fan), "/dnsaddr/a.test")) == 100


class CountingLookup:
    """Answers every question by a fan of further names, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        raise ResolutionError(name, "broken")

    async def texts(self, name: str) -> Sequence[str]:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.sleep(0.1)
        self.at_once -= 1
        base = name.removeprefix("_dnsaddr.")
        return [f"dnsaddr=/dnsaddr/{index}.{base}" for index in range(100)]


def test_lookups_are_bounded_in_number_and_at_a_time() -> None:
    lookup = CountingLookup()

    async def main() -> None:
        with pytest.raises(ResolutionError, match="more than 64 lookups"):
            await resolve(AddressResolver(lookup), "/dnsaddr/a.test")

    for backend in ("asyncio", "trio"):
        lookup.asked = 0
        run(main, backend=backend)
        assert lookup.asked == 64
        assert lookup.most_at_once == 8


class HalfDeadLookup:
    """Knows `good.test` at once; never answers for anything else."""

    async def addresses(self, name: str, version: int) -> Sequence[str]:
        if name != "good.test":
            await anyio.sleep_forever()
        return ["1.1.1.1"]

    async def texts(self, name: str) -> Sequence[str]:
        return ["dnsaddr=/dns4/bad.test/tcp/1", "dnsaddr=/dns4/good.test/tcp/1", "dnsaddr=/ip4/2.2.2.2/tcp/1"]


def test_when_time_is_up_what_was_found_counts() -> None:
    async def main() -> None:
        resolver = AddressResolver(HalfDeadLookup())
        assert await resolve(resolver, "/dnsaddr/a.test") == ["/ip4/1.1.1.1/tcp/1", "/ip4/2.2.2.2/tcp/1"]
        assert anyio.current_time() == pytest.approx(10)
        with pytest.raises(ResolutionError, match="no answer within 10 s"):
            await resolve(resolver, "/dns4/bad.test/tcp/1")

    for backend in ("asyncio", "trio"):
        run(main, backend=backend)


async def test_one_broken_name_does_not_spoil_the_others() -> None:
    class Lookup(CountingLookup):
        async def texts(self, name: str) -> Sequence[str]:
            return ["dnsaddr=/dns4/broken.test/tcp/1", "dnsaddr=/ip4/2.2.2.2/tcp/1"]

    assert await resolve(AddressResolver(Lookup()), "/dnsaddr/a.test") == ["/ip4/2.2.2.2/tcp/1"]
    with pytest.raises(ResolutionError, match=r"broken\.test: broken"):
        await resolve(AddressResolver(Lookup()), "/dns4/broken.test/tcp/1")

    class NoZone(CountingLookup):
        async def texts(self, name: str) -> Sequence[str]:
            raise ResolutionError(name, "SERVFAIL")

    with pytest.raises(ResolutionError, match="SERVFAIL"):
        await resolve(AddressResolver(NoZone()), "/dnsaddr/a.test")


# --- DNS ----------------------------------------------------------------------------------------------

RECORDS = {
    ("host.test.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("host.test.", "AAAA"): ["2001:db8::1"],
    ("only4.test.", "A"): ["192.0.2.9"],
    ("_dnsaddr.boot.test.", "TXT"): [
        f'"dnsaddr=/dns4/host.test/tcp/4001/p2p/{ALICE}"',
        f'"dnsaddr=/ip4/192.0.2.7" "/tcp/1/p2p/{ALICE}"',  # one record in two pieces
        f'"dnsaddr=/ip4/192.0.2.8/tcp/1/p2p/{BOB}"',
        '"\\255\\254"',
    ],
    ("_dnsaddr.big.test.", "TXT"): [f'"dnsaddr=/ip4/192.0.2.7/tcp/{index}"' for index in range(1, 120)],
}


def answer(query: bytes) -> bytes:
    """What our name server says."""
    message = dns.message.from_wire(query)
    question = message.question[0]
    response = dns.message.make_response(message)
    key = (question.name.to_text(), dns.rdatatype.to_text(question.rdtype))
    if key[0] == "broken.test.":
        response.set_rcode(dns.rcode.SERVFAIL)
    elif key in RECORDS:
        response.answer.append(dns.rrset.from_text(key[0], 60, "IN", key[1], *RECORDS[key]))
    elif not any(name == key[0] for name, _ in RECORDS):
        response.set_rcode(dns.rcode.NXDOMAIN)
    wire = response.to_wire(max_size=65535)
    if len(wire) > 4096:  # does not fit: come by TCP
        response.answer.clear()
        response.flags |= dns.flags.TC
        wire = response.to_wire()
    return wire


def full_answer(query: bytes) -> bytes:
    """The same over TCP, where everything fits."""
    message = dns.message.from_wire(query)
    response = dns.message.make_response(message)
    name, kind = message.question[0].name.to_text(), dns.rdatatype.to_text(message.question[0].rdtype)
    response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *RECORDS[name, kind]))
    return response.to_wire(max_size=65535)


@asynccontextmanager
async def name_server(port: int = 0) -> AsyncGenerator[int]:
    """A DNS server on 127.0.0.1, UDP and TCP; yields its port."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port) as tcp,
        AsyncExitStack() as stack,
    ):
        port = tcp.extra(SocketAttribute.local_port)
        make_udp = anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1", local_port=port)
        udp = await stack.enter_async_context(await make_udp)
        tasks = await stack.enter_async_context(anyio.create_task_group())

        async def serve_udp() -> None:
            async for packet, (host, port) in udp:
                if b"silent" not in packet:
                    await udp.sendto(answer(packet), host, port)

        async def serve_tcp(stream: SocketStream) -> None:
            async with stream:
                query = await stream.receive()
                reply = full_answer(query[2:])
                await stream.send(len(reply).to_bytes(2, "big") + reply)

        tasks.start_soon(serve_udp)
        tasks.start_soon(tcp.serve, serve_tcp)
        yield port
        tasks.cancel_scope.cancel()


async def test_dns_resolves_names_and_zones() -> None:
    async with name_server() as port:
        resolver = DnsResolver(nameservers=[("127.0.0.1", port)])
        assert sorted(await resolve(resolver, "/dns/host.test/tcp/1")) == [
            "/ip4/192.0.2.1/tcp/1",
            "/ip4/192.0.2.2/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
        ]
        assert await resolve(resolver, "/dns/only4.test/tcp/1") == ["/ip4/192.0.2.9/tcp/1"]
        assert sorted(await resolve(resolver, f"/dnsaddr/boot.test/p2p/{ALICE}")) == [
            f"/ip4/192.0.2.1/tcp/4001/p2p/{ALICE}",
            f"/ip4/192.0.2.2/tcp/4001/p2p/{ALICE}",
            f"/ip4/192.0.2.7/tcp/1/p2p/{ALICE}",
        ]
        assert len(await resolve(resolver, "/dnsaddr/big.test")) == 100


async def test_dns_failures_are_typed_and_unknown_names_have_no_addresses() -> None:
    async with name_server() as port:
        resolver = DnsResolver(nameservers=[("127.0.0.1", port)])
        with pytest.raises(ResolutionError, match="no usable addresses"):
            await resolve(resolver, "/dns4/unknown.test/tcp/1")
        with pytest.raises(ResolutionError, match="no usable addresses"):
            await resolve(resolver, "/dns6/only4.test/tcp/1")
        with pytest.raises(ResolutionError, match="SERVFAIL"):
            await resolve(resolver, "/dns4/broken.test/tcp/1")
        with pytest.raises(ResolutionError, match="A: "):
            await resolve(resolver, f"/dns4/{'x' * 70}.test/tcp/1")  # a label may have 63 octets


async def test_a_silent_name_server_costs_no_more_than_the_timeout() -> None:
    async with name_server() as port:
        resolver = DnsResolver(ResolverConfig(timeout=0.1), nameservers=[("127.0.0.1", port)])
        with anyio.fail_after(30), pytest.raises(ResolutionError, match=r"no answer within 0\.1 s"):
            await resolve(resolver, "/dns4/silent.test/tcp/1")


def test_one_resolver_serves_whichever_event_loop_runs() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lookup = DnsLookup([("127.0.0.1", port)])

    async def main() -> Sequence[str]:
        async with name_server(port):
            return await lookup.addresses("only4.test", 4)

    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(main, backend=backend) == ["192.0.2.9"]


async def test_localhost_is_never_asked_of_the_dns() -> None:
    resolver = DnsResolver(nameservers=[("127.0.0.1", 9)])
    assert await resolve(resolver, "/dns4/localhost/tcp/1") == ["/ip4/127.0.0.1/tcp/1"]
    assert await resolve(resolver, "/dns/a.LOCALHOST/tcp/1") == ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]


async def test_the_hosts_file_comes_before_the_dns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.44 box.test\n")
    monkeypatch.setattr(dns_lookup, "_hosts_file", lambda: hosts)
    async with name_server() as port:
        resolver = DnsResolver(nameservers=[("127.0.0.1", port)])
        assert await resolve(resolver, "/dns/Box.Test/tcp/1") == ["/ip4/192.0.2.44/tcp/1"]
        hosts.unlink()
        assert await resolve(resolver, "/dns/only4.test/tcp/1") == ["/ip4/192.0.2.9/tcp/1"]


def test_a_hosts_file_is_read_leniently() -> None:
    text = "# comment\n127.0.0.1 localhost Alias\n::1 localhost # and more\nnonsense\nx y\nfe80::1%lo0 zone\n"
    assert parse_hosts(text) == {
        "localhost": ["127.0.0.1", "::1"],
        "alias": ["127.0.0.1"],
        "zone": ["fe80::1"],
    }


async def test_a_machine_without_dns_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.asyncresolver
    import dns.resolver

    def unconfigured() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", unconfigured)
    with pytest.raises(ResolutionError, match="no DNS here"):
        await resolve(DnsResolver(), "/dns4/host.test/tcp/1")


def test_the_system_is_asked_by_default() -> None:
    assert DnsLookup()._build() is not None
    assert dns_lookup._hosts_file().name == "hosts"
    assert "dns.asyncresolver" in sys.modules

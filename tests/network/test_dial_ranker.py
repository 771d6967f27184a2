"""Ranking: go-libp2p's cases, and what differs from go on purpose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.network.dial_ranker import rank

RELAY = "12D3KooWA8EXV3KjBxEU5EnsPfneLx84vMWAtTBQBeyooN82KSuS"


def ranked(*addresses: str) -> dict[str, float]:
    return {str(address): delay for address, delay in rank([Multiaddr.parse(a) for a in addresses])}


def q4(port: int) -> str:
    return f"/ip4/1.2.3.4/udp/{port}/quic-v1"


def q6(port: int) -> str:
    return f"/ip6/2a00::2/udp/{port}/quic-v1"


def t4(port: int) -> str:
    return f"/ip4/1.2.3.4/tcp/{port}"


def t6(port: int) -> str:
    return f"/ip6/2a00::2/tcp/{port}"


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param({q4(1): 0, q4(2): 0.25, q4(3): 0.25}, id="quic over IPv4"),
        pytest.param({q6(1): 0, q6(2): 0.25, q6(3): 0.25}, id="quic over IPv6"),
        pytest.param({q6(1): 0, q4(2): 0.25}, id="quic over both"),
        pytest.param({q6(1): 0, q4(1): 0.25, q4(2): 0.5, q4(1) + "/webtransport": 0.5}, id="webtransport"),
        pytest.param({q4(1): 0, t6(1): 0.25, t4(1): 0.5, t4(2): 0.75}, id="quic, then tcp over both"),
        pytest.param({q4(1): 0, t6(1): 0.25, t4(2): 0.5}, id="quic, then two of tcp"),
        pytest.param({q6(1): 0, q4(1): 0.25, q6(2): 0.5, t4(1): 0.75}, id="tcp after the last quic"),
        pytest.param({q4(1): 0, f"{t4(1)}/p2p-circuit": 0.5}, id="relays later"),
        pytest.param(
            {
                q6(1): 0,
                q4(1): 0.25,
                "/ip4/1.2.3.4/udp/9/webrtc-direct": 1.25,
                "/dns4/example.com/tcp/1": 2.25,
            },
            id="others a second after the last, names last of all",
        ),
        pytest.param({}, id="nothing"),
    ],
)
def test_delays_are_those_of_go_libp2p(expected: dict[str, float]) -> None:
    result = ranked(*expected)
    assert result == pytest.approx(expected)
    assert list(result) == list(expected)


def test_tcp_addresses_follow_one_another_until_all_that_is_left_goes_together() -> None:
    assert ranked(*(t4(port) for port in range(1, 9))) == pytest.approx(
        {t4(1): 0, t4(2): 0.25, t4(3): 0.5, t4(4): 0.75, t4(5): 1, t4(6): 1, t4(7): 1, t4(8): 1}
    )


def test_tcp_families_take_turns() -> None:
    assert list(ranked(t4(1), t4(2), t6(1), t6(2), t6(3))) == [t6(1), t4(1), t6(2), t4(2), t6(3)]


def test_the_lowest_port_goes_first() -> None:
    assert next(iter(ranked(t4(4001), t4(64321), t4(1024)))) == t4(1024)


def test_private_addresses_start_beside_public_ones_at_a_quicker_pace() -> None:
    local = ["/ip4/192.168.1.2/tcp/1", "/ip4/192.168.1.2/tcp/2", "/ip4/127.0.0.1/udp/1/quic-v1"]
    result = ranked(t4(1), *local)
    assert result[t4(1)] == 0
    assert [result[address] for address in local] == pytest.approx([0.03, 0.06, 0])


def test_relays_start_at_once_when_there_is_no_public_address() -> None:
    relayed = f"{t4(1)}/p2p/{RELAY}/p2p-circuit"
    assert ranked(relayed, "/ip4/10.0.0.1/tcp/1")[relayed] == 0


def test_the_way_to_a_relay_is_ranked_as_its_own_transport() -> None:
    assert ranked(f"{t4(1)}/p2p-circuit", f"{q4(1)}/p2p-circuit", t4(9)) == pytest.approx(
        {t4(9): 0, f"{q4(1)}/p2p-circuit": 0.5, f"{t4(1)}/p2p-circuit": 0.75}
    )


@pytest.mark.parametrize("alone", ["/memory/1", "/dns4/example.com/tcp/1", "/ip4/1.2.3.4/udp/1/webrtc-direct"])
def test_the_only_address_never_waits(alone: str) -> None:
    assert ranked(alone) == {alone: 0}


addresses = st.sampled_from([t4, t6, q4, q6]).flatmap(lambda make: st.integers(1, 50).map(make))


@given(st.lists(addresses, max_size=70), st.randoms())
def test_each_address_is_ranked_once_whatever_the_order(texts: list[str], random: object) -> None:
    parsed = [Multiaddr.parse(text) for text in texts]
    result = rank(parsed)
    assert {address for address, _ in result} == set(parsed)
    assert len(result) == len(set(parsed))
    delays = [delay for _, delay in result]
    assert delays == sorted(delays)
    assert all(0 <= delay <= 2 for delay in delays)
    assert rank(parsed[::-1]) == result

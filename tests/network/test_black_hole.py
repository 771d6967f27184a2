"""Black holes: a kind of address that never works is left out, and found again when it does."""

from __future__ import annotations

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.network.black_hole import BlackHoleDetector, BlackHoleState, SuccessCounter

UDP4 = Multiaddr.parse("/ip4/1.2.3.4/udp/1/quic-v1")
UDP6 = Multiaddr.parse("/ip6/2a00::1/udp/1/quic-v1")
TCP4 = Multiaddr.parse("/ip4/1.2.3.4/tcp/1")
TCP6 = Multiaddr.parse("/ip6/2a00::1/tcp/1")
LOCAL_UDP = Multiaddr.parse("/ip4/192.168.0.1/udp/1/quic-v1")
ALL = [UDP4, UDP6, TCP4, TCP6, LOCAL_UDP]


def counter(successes: int, failures: int) -> SuccessCounter:
    result = SuccessCounter()
    for outcome in [True] * successes + [False] * failures:
        result.record(outcome)
    return result


def test_nothing_is_judged_before_a_hundred_outcomes() -> None:
    assert counter(0, 99).state is BlackHoleState.PROBING


def test_five_successes_in_a_hundred_are_enough() -> None:
    assert counter(5, 95).state is BlackHoleState.ALLOWED
    assert counter(4, 96).state is BlackHoleState.BLOCKED


def test_only_the_last_hundred_outcomes_count() -> None:
    assert counter(50, 95).state is BlackHoleState.ALLOWED
    assert counter(50, 100).state is BlackHoleState.BLOCKED


def test_each_hundredth_request_probes_a_blocked_kind() -> None:
    blocked = counter(0, 100)
    answers = [blocked.request() for _ in range(200)]
    assert [number for number, answer in enumerate(answers, 1) if answer is BlackHoleState.PROBING] == [
        100,
        200,
    ]


def test_one_success_lifts_a_block() -> None:
    blocked = counter(0, 100)
    blocked.record(True)
    assert blocked.request() is BlackHoleState.PROBING


def test_a_fresh_detector_lets_everything_through() -> None:
    assert BlackHoleDetector().filter(ALL) == ALL


def test_blocked_udp_leaves_tcp_and_private_addresses() -> None:
    detector = BlackHoleDetector()
    for _ in range(100):
        detector.record(UDP4, False)
    assert detector.udp.state is BlackHoleState.BLOCKED
    assert detector.ipv6.state is BlackHoleState.PROBING
    assert detector.filter(ALL) == [UDP6, TCP4, TCP6, LOCAL_UDP]  # UDP6 passes: IPv6 is being probed


def test_udp_and_ipv6_are_watched_apart() -> None:
    detector = BlackHoleDetector(window=10, min_successes=2)
    for _ in range(10):
        detector.record(TCP6, False)
        detector.record(UDP4, True)
    assert detector.filter(ALL) == [UDP4, TCP4, LOCAL_UDP]


def test_a_probe_of_one_kind_passes_even_if_the_other_is_blocked() -> None:
    detector = BlackHoleDetector(window=4, min_successes=1)
    for _ in range(4):
        detector.record(UDP6, False)
    assert detector.filter([TCP6, TCP4]) == [TCP4]
    assert [detector.filter([UDP6]) for _ in range(4)] == [[], [], [UDP6], [UDP6]]


def test_private_addresses_say_nothing_about_black_holes() -> None:
    detector = BlackHoleDetector(window=2, min_successes=1)
    for _ in range(4):
        detector.record(LOCAL_UDP, False)
    assert detector.udp.state is BlackHoleState.PROBING


def test_a_dial_without_addresses_of_a_kind_is_no_request() -> None:
    detector = BlackHoleDetector(window=2, min_successes=1)
    detector.record(UDP4, False)
    detector.record(UDP4, False)
    for _ in range(5):
        assert detector.filter([TCP4]) == [TCP4]
    assert [detector.filter([UDP4]), detector.filter([UDP4])] == [[], [UDP4]]

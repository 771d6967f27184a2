"""Claims about what may be done so often: a burst, and then no faster than it comes back."""

from __future__ import annotations

from py_p2pstack.allowance import Allowance


def test_a_burst_is_allowed_and_no_more() -> None:
    allowance = Allowance(3, 1.0)
    assert [allowance.take(100.0) for _ in range(5)] == [True, True, True, False, False]


def test_it_comes_back_at_its_rate_whether_or_not_it_is_asked_for_in_vain() -> None:
    allowance = Allowance(2, 4.0)
    assert [allowance.take(10.0) for _ in range(4)] == [True, True, False, False]
    assert [allowance.take(10.125), allowance.take(10.25), allowance.take(10.25)] == [False, True, False]


def test_no_more_than_the_burst_is_saved_up() -> None:
    allowance = Allowance(2, 4.0)
    assert [allowance.take(10.0), allowance.take(1000.0), allowance.take(1000.0), allowance.take(1000.0)] == [
        True,
        True,
        True,
        False,
    ]

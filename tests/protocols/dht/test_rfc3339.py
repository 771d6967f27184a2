"""Time stamps: exact to the nanosecond, in the form Go writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.protocols.dht import rfc3339

FIRST, LAST = rfc3339.parse("0001-01-01T00:00:00Z"), rfc3339.parse("9999-12-31T23:59:59.999999999Z")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
        ("2126-01-02T03:04:05.123456789Z", 4_922_996_645_123_456_789),
        ("2023-04-12T15:32:22.64Z", 1_681_313_542_640_000_000),
    ],
)
def test_a_time_is_read_and_written_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    assert rfc3339.parse(text) == nanoseconds
    assert rfc3339.format(nanoseconds) == text


@pytest.mark.parametrize("text", ["2020-06-01T12:00:00+02:00", "2020-06-01T05:30:00-04:30", "2020-06-01T10:00:00.000Z"])
def test_offsets_and_trailing_zeros_are_read(text: str) -> None:
    assert rfc3339.format(rfc3339.parse(text)) == "2020-06-01T10:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2020-06-01",
        "2020-06-01T10:00:00",
        "2020-06-01 10:00:00Z",
        "2020-06-01T10:00:00.Z",
        "2020-06-01T10:00:00.1234567890Z",
        "2020-06-31T10:00:00Z",
        "2020-06-01T24:00:00Z",
        "2020-06-01T10:00:60Z",
        "0000-06-01T10:00:00Z",
        "2020-06-01T10:00:00+24:00",
        "2020-06-01T10:00:00Z\n",
        "٢٠٢٠-06-01T10:00:00Z",
    ],
)
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        rfc3339.parse(text)


@given(st.integers(FIRST, LAST))
def test_what_is_written_is_read(nanoseconds: int) -> None:
    assert rfc3339.parse(rfc3339.format(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("nanoseconds", [FIRST - 1, LAST + 1, 10**40, -(10**40)])
def test_years_outside_the_calendar_cannot_be_written(nanoseconds: int) -> None:
    with pytest.raises(ValueError):
        rfc3339.format(nanoseconds)

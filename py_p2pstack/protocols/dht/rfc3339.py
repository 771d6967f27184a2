"""RFC 3339 time stamps with nanoseconds ↔ nanoseconds since 1970, as Go reads and writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)


def parse(text: str) -> int:
    """Return the nanoseconds since 1970 of a time stamp. Raises ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    *date, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, date)
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    offset = (int(hours) * 60 + int(minutes)) * 60 if sign else 0
    seconds = (moment - _EPOCH) // timedelta(seconds=1) + (offset if sign == "-" else -offset)
    return seconds * SECOND + int((fraction or "").ljust(9, "0"))


def format(nanoseconds: int) -> str:  # noqa: A001  (read as rfc3339.format)
    """Return the UTC time stamp, without trailing zeros. Raises ValueError outside the years 1 to 9999."""
    seconds, rest = divmod(nanoseconds, SECOND)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"no year for {nanoseconds} ns since 1970") from None
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return moment.replace(tzinfo=None).isoformat() + fraction + "Z"

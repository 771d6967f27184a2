"""What every hostile test is watched by: no exception that nobody caught, no error in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.hostile.mallory import run as run


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which a task boundary had to log a fault; who expects one silences the logger."""
    yield
    errors = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not errors, [record.getMessage() for record in errors]

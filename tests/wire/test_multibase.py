"""Multibase: the specification's vectors, and nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.wire import multibase


@pytest.mark.parametrize(
    ("text", "data"),
    # multiformats/multibase tests/basic.csv and two_leading_zeros.csv
    [
        ("f796573206d616e692021", b"yes mani !"),
        ("F796573206D616E692021", b"yes mani !"),
        ("bpfsxgidnmfxgsibb", b"yes mani !"),
        ("BPFSXGIDNMFXGSIBB", b"yes mani !"),
        ("k2lcpzo5yikidynfl", b"yes mani !"),
        ("K2LCPZO5YIKIDYNFL", b"yes mani !"),
        ("z7paNL19xttacUY", b"yes mani !"),
        ("f0000796573206d616e692021", b"\0\0yes mani !"),
        ("baaahszltebwwc3tjeaqq", b"\0\0yes mani !"),
        ("k002lcpzo5yikidynfl", b"\0\0yes mani !"),
        ("z117paNL19xttacUY", b"\0\0yes mani !"),
    ],
)
def test_the_vectors_are_read(text: str, data: bytes) -> None:
    assert multibase.decode(text) == data


@pytest.mark.parametrize("text", ["", "b", "k", "z"])
def test_an_empty_text_is_empty_or_nothing(text: str) -> None:
    if text:
        assert multibase.decode(text) == b""
    else:
        with pytest.raises(ValueError, match="multibase"):
            multibase.decode(text)


@given(st.text(max_size=40))
def test_any_text_is_bytes_or_an_error(text: str) -> None:
    try:
        multibase.decode(text)
    except ValueError:
        return
    assert text[0] in "bBkKzfF"


@pytest.mark.parametrize("text", ["mYWJj", "z7pa NL", "k2l_c", "f0", "b1", "kÀ", "zl"])
def test_other_bases_and_broken_digits_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        multibase.decode(text)

"""Validators: keys go to the rules of their namespace, and the rules of those that are not signed records."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from py_p2pstack.errors import InvalidRecord
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.protocols.dht.validators import (
    MAX_BLANK_VALUE,
    BlankValidator,
    PublicKeyValidator,
    Validators,
    default_validators,
    public_validators,
    split_key,
)

NOW = 1_800_000_000.0


class Longest:
    """Takes what is not empty and likes the longest."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        if not value:
            raise InvalidRecord("empty")

    def select(self, key: bytes, values: Sequence[bytes], now: float) -> int:
        return max(range(len(values)), key=lambda index: len(values[index]))


def test_each_key_goes_to_the_validator_of_its_namespace() -> None:
    validators = Validators({"long": Longest(), "v": BlankValidator()})
    validators.validate(b"/v/x", b"", NOW)
    with pytest.raises(InvalidRecord):
        validators.validate(b"/long/x", b"", NOW)
    assert validators.select(b"/v/x", [b"a", b"bb"], NOW) == 0
    assert validators.select(b"/long/x", [b"a", b"bb"], NOW) == 1
    assert repr(validators) == "<Validators of long, v>"


@pytest.mark.parametrize("key", [b"/other/x", b"/pk", b"/pk2/x", b"\xff\xfe", b"/\xff/x", b"", b"/", b"//x", b"v/x"])
def test_a_key_of_no_known_namespace_is_invalid_to_check_and_to_choose_by(key: bytes) -> None:
    validators = default_validators()
    with pytest.raises(InvalidRecord):
        validators.validate(key, b"value", NOW)
    with pytest.raises(InvalidRecord):
        validators.select(key, [b"value"], NOW)


def test_nothing_can_be_chosen_from_nothing() -> None:
    with pytest.raises(InvalidRecord):
        default_validators().select(b"/v/x", [], NOW)


def test_a_key_is_split_at_its_second_slash() -> None:
    assert split_key(b"/v/a/b") == (b"v", b"a/b")
    assert split_key(b"/v/") == (b"v", b"")


@pytest.mark.parametrize("key_type", KeyType)
def test_a_public_key_lies_under_its_own_peer_id_only(key_type: KeyType) -> None:
    alice, bob = PrivateKey.generate(key_type).public_key, PrivateKey.generate(key_type).public_key
    validator = PublicKeyValidator()
    key = b"/pk/" + alice.peer_id().to_bytes()
    validator.validate(key, alice.encode(), NOW)
    for wrong in (bob.encode(), b"", b"junk", alice.encode() + b"\0", alice.raw()):
        with pytest.raises(InvalidRecord):
            validator.validate(key, wrong, NOW)
    with pytest.raises(InvalidRecord):
        validator.validate(b"/pk/" + str(alice.peer_id()).encode(), alice.encode(), NOW)
    assert validator.select(key, [alice.encode(), alice.encode()], NOW) == 0


def test_a_blank_value_is_bounded_in_size_and_in_nothing_else() -> None:
    validator = BlankValidator()
    validator.validate(b"/v/x", bytes(MAX_BLANK_VALUE), NOW)
    with pytest.raises(InvalidRecord, match="65537 bytes"):
        validator.validate(b"/v/x", bytes(MAX_BLANK_VALUE + 1), NOW)
    BlankValidator(max_size=3).validate(b"/v/x", b"abc", NOW)


def test_among_blank_values_the_first_of_the_list_wins_so_a_put_replaces_and_a_search_stays() -> None:
    validator = BlankValidator()
    assert validator.select(b"/v/x", [b"put now", b"stored"], NOW) == 0
    assert validator.select(b"/v/x", [b"found first", b"found later"], NOW) == 0


def test_the_public_network_knows_no_blank_values() -> None:
    assert "v" in default_validators().namespaces
    assert "v" not in public_validators().namespaces

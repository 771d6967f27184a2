"""multistream-select, as machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from py_p2pstack.errors import MessageTooLarge, NegotiationError, ProtocolError, RemoteProtocolError
from py_p2pstack.upgrade import multistream
from py_p2pstack.upgrade.multistream import MAX_PROPOSALS, LazyReply, Proposer, Responder, lazy_proposal

HEADER = b"\x13/multistream/1.0.0\n"
NA = b"\x03na\n"
PING = "/ipfs/ping/1.0.0"
PING_TOKEN = b"\x11/ipfs/ping/1.0.0\n"


def responder(*protocols: str) -> Responder:
    return Responder(set(protocols).__contains__)


def agreed(machine: Proposer | Responder) -> bool:
    return machine.protocol is not None


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    start = 0
    for cut in (*sorted(cut % (len(data) + 1) for cut in cuts), len(data)):
        if cut > start:
            yield data[start:cut]
            start = cut


def token(text: str) -> bytes:
    data = text.encode() + b"\n"
    assert len(data) < 128
    return bytes((len(data),)) + data


# --- the dialer -----------------------------------------------------------------------------------


def test_the_header_and_the_first_proposal_go_out_as_one() -> None:
    proposer = Proposer([PING, "/other"])
    assert proposer.bytes_to_send() == HEADER + PING_TOKEN
    assert proposer.bytes_to_send() == b""


def test_a_proposal_that_is_echoed_is_agreed_on_and_what_follows_is_kept() -> None:
    proposer = Proposer([PING])
    proposer.receive_data(HEADER + PING_TOKEN + b"application")
    assert proposer.protocol == PING
    assert proposer.unread == b"application"


def test_after_na_the_next_is_proposed() -> None:
    proposer = Proposer(["/a", "/b", PING])
    proposer.bytes_to_send()
    proposer.receive_data(HEADER + NA)
    assert proposer.bytes_to_send() == token("/b")
    proposer.receive_data(NA)
    assert proposer.bytes_to_send() == PING_TOKEN
    proposer.receive_data(PING_TOKEN)
    assert proposer.protocol == PING


def test_nothing_in_common_is_an_error_that_lists_what_was_proposed() -> None:
    proposer = Proposer(["/a", "/b"])
    with pytest.raises(NegotiationError, match=r"none of /a, /b") as caught:
        proposer.receive_data(HEADER + NA + NA)
    assert caught.value.protocols == ("/a", "/b")


@pytest.mark.parametrize("answer", [token("/other"), token(""), HEADER])
def test_an_answer_that_is_neither_yes_nor_no_is_an_error(answer: bytes) -> None:
    with pytest.raises(NegotiationError, match="answered"):
        Proposer([PING]).receive_data(HEADER + answer)


@pytest.mark.parametrize("start", [token("/multistream/2.0.0"), PING_TOKEN, NA])
def test_a_peer_that_begins_with_something_else_speaks_no_multistream(start: bytes) -> None:
    with pytest.raises(NegotiationError, match="no multistream"):
        Proposer([PING]).receive_data(start)
    with pytest.raises(NegotiationError, match="no multistream"):
        responder(PING).receive_data(start)


def test_proposing_nothing_or_too_long_a_name_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Proposer([])
    with pytest.raises(ValueError, match="limit"):
        Proposer(["/" * 1024])


# --- the listener ---------------------------------------------------------------------------------


def test_a_protocol_we_speak_is_echoed_behind_our_header() -> None:
    bob = responder(PING)
    bob.receive_data(HEADER + PING_TOKEN + b"application")
    assert bob.protocol == PING
    assert bob.bytes_to_send() == HEADER + PING_TOKEN
    assert bob.unread == b"application"


def test_a_dialer_that_waits_for_our_header_gets_it() -> None:
    bob = responder(PING)
    bob.receive_data(HEADER)
    assert bob.bytes_to_send() == HEADER
    bob.receive_data(PING_TOKEN)
    assert bob.bytes_to_send() == PING_TOKEN


def test_what_we_do_not_speak_is_refused_and_the_next_proposal_heard() -> None:
    bob = responder(PING)
    bob.receive_data(HEADER + token("/a"))
    assert bob.bytes_to_send() == HEADER + NA
    assert bob.protocol is None
    bob.receive_data(token("/b") + PING_TOKEN)
    assert bob.bytes_to_send() == NA + PING_TOKEN
    assert bob.protocol == PING


def test_ls_is_refused_like_any_protocol_we_do_not_speak() -> None:
    """go-multistream dropped `ls`; the answer to it is the same."""
    bob = responder(PING)
    bob.receive_data(HEADER + token("ls"))
    assert bob.bytes_to_send() == HEADER + NA


def test_the_number_of_refusals_is_bounded() -> None:
    bob = responder(PING)
    bob.receive_data(HEADER + token("/x") * MAX_PROPOSALS)
    assert bob.bytes_to_send() == HEADER + NA * MAX_PROPOSALS
    with pytest.raises(NegotiationError, match="none of which"):
        bob.receive_data(token("/x"))


def test_protocols_may_be_matched_by_a_rule() -> None:
    bob = Responder(lambda protocol: protocol.startswith("/chat/"))
    bob.receive_data(HEADER + token("/chat/2.1"))
    assert bob.protocol == "/chat/2.1"


# --- tokens ---------------------------------------------------------------------------------------

BAD_TOKENS = {
    "no newline": (b"\x02ab", RemoteProtocolError),
    "empty": (b"\x00", RemoteProtocolError),
    "no UTF-8": (b"\x03\xff\xfe\n", RemoteProtocolError),
    "1025 bytes": (b"\x81\x08", MessageTooLarge),
    "a length of 63 bits": (b"\xff" * 8 + b"\x7f", MessageTooLarge),
    "a length without end": (b"\xff" * 9, RemoteProtocolError),
    "a length with a zero behind it": (b"\x83\x00na\n", RemoteProtocolError),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
@pytest.mark.parametrize("where", ["header", "second"])
@pytest.mark.parametrize("side", ["proposer", "responder", "lazy"])
def test_a_malformed_token_is_a_typed_error(name: str, where: str, side: str) -> None:
    data, error = BAD_TOKENS[name]
    machines: dict[str, Proposer | Responder | LazyReply]
    machines = {"proposer": Proposer([PING]), "responder": responder(PING), "lazy": LazyReply(PING)}
    machine = machines[side]
    with pytest.raises(error):
        machine.receive_data((HEADER if where == "second" else b"") + data)


def test_a_token_of_1024_bytes_passes() -> None:
    name = "/" + "a" * 1022
    bob = responder(name)
    bob.receive_data(lazy_proposal(name))
    assert bob.protocol == name
    assert bob.bytes_to_send() == lazy_proposal(name)


def test_names_are_unicode_on_the_wire() -> None:
    bob = responder("/grüße/1")
    bob.receive_data(lazy_proposal("/grüße/1"))
    assert bob.protocol == "/grüße/1"


def test_encoded_tokens_are_remembered_in_a_bounded_number() -> None:
    for number in range(3000):
        lazy_proposal(f"/p/{number}")
    assert lazy_proposal.cache_info().currsize <= 1024
    assert multistream._encode.cache_info().currsize <= 1024


# --- the optimistic dialer ------------------------------------------------------------------------


@given(st.lists(st.integers(0, 200), max_size=6), st.binary(max_size=40))
def test_the_foreseen_reply_is_taken_off_the_first_bytes(cuts: list[int], rest: bytes) -> None:
    reply = LazyReply(PING)
    over = False
    seen = b""
    for piece in pieces(HEADER + PING_TOKEN + rest, cuts):
        if over:
            seen += piece
        else:
            over = reply.receive_data(piece)
    assert over
    assert reply.unread + seen == rest


def test_a_foreseen_protocol_that_is_gone_is_an_error_that_names_it() -> None:
    for cut in range(len(HEADER + NA)):
        reply = LazyReply(PING)
        assert not reply.receive_data((HEADER + NA)[:cut])
        with pytest.raises(NegotiationError, match="does not speak") as caught:
            reply.receive_data((HEADER + NA)[cut:])
        assert caught.value.protocols == (PING,)


@pytest.mark.parametrize("answer", [token("/other"), HEADER])
def test_a_reply_that_was_not_foreseen_is_an_error(answer: bytes) -> None:
    with pytest.raises(NegotiationError, match="answered"):
        LazyReply(PING).receive_data(HEADER + answer)


# --- both together --------------------------------------------------------------------------------

names = st.text(
    st.characters(exclude_characters="\n", categories=("L", "N", "P", "S", "Z")), min_size=1, max_size=20
).filter(lambda name: name not in ("na", multistream.HEADER))


@given(
    st.lists(names, min_size=1, max_size=5, unique=True),
    st.lists(names, max_size=5),
    st.lists(st.integers(0, 500), max_size=5),
    st.binary(max_size=20),
)
def test_both_agree_on_the_first_proposal_the_listener_speaks(
    proposed: list[str], others: list[str], cuts: list[int], rest: bytes
) -> None:
    spoken = {*others, *proposed[len(others) :]}
    expected = next((name for name in proposed if name in spoken), None)
    alice, bob = Proposer(proposed), responder(*spoken)
    try:
        for _ in proposed:
            if agreed(alice):
                break
            to_bob = alice.bytes_to_send()
            assert to_bob, "both wait for each other"
            for piece in pieces(to_bob, cuts):
                bob.receive_data(piece)
            to_alice = bob.bytes_to_send() + (rest if agreed(bob) else b"")
            for piece in pieces(to_alice, cuts):
                if agreed(alice):
                    break
                alice.receive_data(piece)
    except NegotiationError:
        assert expected is None
        return
    assert alice.protocol == expected
    assert bob.protocol == expected
    assert rest.startswith(alice.unread)
    assert bob.unread == b""


@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_garbage_is_a_protocol_error_or_not_yet_a_token(chunks: list[bytes], good_header: bool) -> None:
    for machine in (Proposer([PING]), responder(PING), LazyReply(PING)):
        try:
            if good_header:
                machine.receive_data(HEADER)
            for chunk in chunks:
                machine.receive_data(chunk)
        except ProtocolError:
            pass


class Negotiation(RuleBasedStateMachine):
    """A dialer and a listener over a wire that cuts as it likes; the listener may begin or stop to speak a protocol.

    They never disagree: the dialer settles on a protocol only if the listener settled on the same, and no byte of the
    application, sent at once by whoever is done, is lost or comes too early.
    """

    @initialize(
        proposed=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), spoken=st.sets(st.sampled_from("abcdef"))
    )
    def begin(self, proposed: list[str], spoken: set[str]) -> None:
        self.spoken = spoken
        self.alice = Proposer(proposed)
        self.bob = Responder(self.spoken.__contains__)
        self.to_alice, self.to_bob = b"", b""
        self.said = [False, False]
        self.heard = [b"", b""]
        self.failed = False

    def collect(self) -> None:
        self.to_bob += self.alice.bytes_to_send()
        self.to_alice += self.bob.bytes_to_send()
        if agreed(self.alice) and not self.said[0]:
            self.said[0] = True
            self.to_bob += b"from alice"
        if agreed(self.bob) and not self.said[1]:
            self.said[1] = True
            self.to_alice += b"from bob"

    @rule(size=st.integers(1, 60))
    def towards_bob(self, size: int) -> None:
        self.collect()
        data, self.to_bob = self.to_bob[:size], self.to_bob[size:]
        if agreed(self.bob):
            self.heard[1] += data
        else:
            self.bob.receive_data(data)

    @rule(size=st.integers(1, 60))
    def towards_alice(self, size: int) -> None:
        self.collect()
        data, self.to_alice = self.to_alice[:size], self.to_alice[size:]
        if agreed(self.alice):
            self.heard[0] += data
        elif not self.failed:
            try:
                self.alice.receive_data(data)
            except NegotiationError:
                self.failed = True

    @rule(name=st.sampled_from("abcdef"))
    def change_of_mind(self, name: str) -> None:
        self.spoken ^= {name}

    @invariant()
    def the_dialer_is_never_ahead(self) -> None:
        alice, bob = getattr(self, "alice", None), getattr(self, "bob", None)
        assert alice is None or bob is None or alice.protocol in (None, bob.protocol)

    def teardown(self) -> None:
        if not hasattr(self, "alice"):
            return
        for _ in range(20):
            self.towards_bob(1000)
            self.towards_alice(1000)
        assert self.failed != agreed(self.alice)
        if not self.failed:
            assert self.alice.protocol == self.bob.protocol
            assert self.alice.unread + self.heard[0] == b"from bob"
            assert self.bob.unread + self.heard[1] == b"from alice"


TestNegotiation = Negotiation.TestCase

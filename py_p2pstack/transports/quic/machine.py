"""One QUIC connection, sans-IO: qh3's packet core, its TLS, and what passes between the two.

`QuicConnection` of qh3 would do that too, but fixes the number of streams, keeps credit to itself and has no place for
a client's certificate. What the core tells once the handshake is over is passed on as it comes: tuples, whose first
item names the kind (`stream_data`, `stream_reset`, …).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from hmac import compare_digest

from qh3 import tls
from qh3._hazmat import QuicConnectionCore, pull_quic_header
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.crypto import CIPHER_SUITES, derive_key_iv_hp
from qh3.quic.packet import QuicPacketType, get_retry_integrity_tag
from qh3.quic.tls_bridge import QuicTlsBridgeError, QuicTlsTrafficSecret

from py_p2pstack.errors import HandshakeError, P2PError
from py_p2pstack.identity import PeerId, PublicKey
from py_p2pstack.transports.quic.address import SocketAddress
from py_p2pstack.transports.quic.codec import CID_LENGTH, VERSION
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.identity import VerifyChain
from py_p2pstack.transports.quic.postscript import Postscript
from py_p2pstack.transports.quic.tls import SUITE, QuicTls

logger = logging.getLogger(__name__)

_MAX_DATAGRAM = 1280  # bytes we send at first, as go; the path is then probed for more
_MAX_PROBED = 1472  # bytes to which that may grow: what an Ethernet carries
_INITIAL_RTT = 0.1  # seconds; quic-go's
_CRYPTO_ERROR = 0x100
_INTERNAL_ERROR = _CRYPTO_ERROR + 80
_NO_LIMIT = 1 << 60
_NO_ROOM = "packet builder capacity exhausted"  # what may be sent to an unproved address is used up; it comes again
_ENDED = ("closing", "draining", "terminated")


class QuicMachine:
    """One end of a connection. Whatever a peer sends raises nothing here but ends the connection: see `fault`."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        config: QuicConfig,
        *,
        verify: VerifyChain,
        expected: PeerId | None,
        remote: SocketAddress,
        now: float,
        cid: bytes,
        reset_token: bytes | None = None,
        destination_cid: bytes = b"",
        original_cid: bytes = b"",
        retried: bool = False,
    ) -> None:
        """The last three are a server's: where the first packet went, and before that if we sent a Retry."""
        self.client = configuration.is_client
        self.cid = cid
        self.remote = remote
        self.fault: P2PError | None = None
        """Why there will be no connection, or what broke it."""
        self.public_key: PublicKey | None = None
        """Who the peer is; None before the handshake is complete."""
        self.taken = 0
        """Bytes received before that."""
        self.credit_of_ours = 0
        """Bytes the peer takes at first of a stream that we open."""
        self.credit_of_theirs = 0
        """… of a stream that it opens."""
        self.carrier: int | None = None
        """The ping whose acknowledgement will tell that the frames given last have arrived; None: they wait."""
        self.early_cids: list[bytes] = []
        """Further names of ours that the peer may call us by, given out before the handshake was complete."""
        self.told = 0
        """Events the core had to tell since then."""
        self._pings = 0
        self._sending: QuicTlsTrafficSecret | None = None  # the first of those that protect what we send
        self._postscript: Postscript | None = None
        self._peer_cid_length = 0
        self._panicked = False
        self._configuration = configuration
        self._config = config
        self._verify = verify
        self._expected = expected
        self._reset_token = reset_token
        self._original_cid = os.urandom(CID_LENGTH) if self.client else original_cid
        self._retry_cid = destination_cid if retried else None
        self.core, self._tls = self._begin(self._original_cid if self.client else destination_cid, now)
        if self.client:
            self._tls.start()
            self._drain_tls()

    def _begin(self, destination_cid: bytes, now: float) -> tuple[QuicConnectionCore, QuicTls]:
        config = self._config
        core = QuicConnectionCore(
            is_client=self.client,
            version=VERSION,
            local_addr=("0.0.0.0", 0),  # noqa: S104 - a name for the only path
            remote_addr=self.remote,
            source_cid=self.cid,
            destination_cid=destination_cid,
            peer_address_validated=self.client or self._retry_cid is not None,
            active_connection_id_limit=4,
            max_datagram_size=_MAX_DATAGRAM,
            probe_datagram_size=True,
            idle_timeout=config.idle_timeout,
            ack_delay_exponent=3,
            max_datagram_frame_size=None,
            peer_max_datagram_frame_size=None,
            connection_receive_window=config.connection_window,
            connection_send_limit=0,
            stream_receive_window=_NO_LIMIT,  # see postscript
            stream_send_limit_bidi_local=0,
            stream_send_limit_bidi_remote=0,
            stream_send_limit_uni=0,
            max_stream_reassembly=config.connection_window,
            local_max_streams_bidi=config.max_inbound_streams,
            local_max_streams_uni=0,
            peer_max_streams_bidi=0,
            peer_max_streams_uni=0,
            initial_rtt=_INITIAL_RTT,
            max_ack_delay=0.025,
            initial_time=now,
        )
        return core, QuicTls(
            self._configuration,
            config,
            verify=self._verify,
            expected=self._expected,
            source_cid=self.cid,
            original_cid=self._original_cid,
            retry_cid=self._retry_cid,
            reset_token=self._reset_token,
        )

    @property
    def ended(self) -> bool:
        """Whether either side has closed it, or it broke."""
        return self._panicked or self.core.state in _ENDED

    @property
    def is_pacing(self) -> bool:
        """Whether packets wait in the core for their time."""
        timer = self.core.get_timer()
        return timer is not None and timer[0] == "pacing"

    @property
    def holds_back(self) -> bool:
        """Whether packets may wait in the core, new ones or lost ones: for their time, or for room on the path."""
        core = self.core
        return core.congestion_window - core.bytes_in_flight < _MAX_PROBED or self.is_pacing

    # --- receiving --------------------------------------------------------------------------------

    def receive(self, data: bytes, segment: int, remote: SocketAddress, now: float) -> None:
        """Take in datagrams of `segment` bytes each (the last may be shorter)."""
        if self._panicked:
            return
        try:
            if self.public_key is not None:
                self.told += self.core.receive_gro_buffer(data, segment, remote, now)[5]
                return
            for start in range(0, len(data), segment):
                self._receive_early(data[start : start + segment], remote, now)
        except BaseException as fault:  # noqa: BLE001 - see _broke
            self._broke(fault)

    def _receive_early(self, data: bytes, remote: SocketAddress, now: float) -> None:
        """Before the handshake is complete a packet may bring the keys of the next one in its datagram."""
        self.taken += len(data)
        if self.taken > self._config.max_handshake:
            raise HandshakeError(f"a QUIC handshake of more than {self._config.max_handshake} bytes")
        if self.client and not self.core.received_authenticated_packet and self._receive_unprotected(data, now):
            return
        offset = 0
        while offset < len(data) and self.fault is None:
            try:
                header = pull_quic_header(data, offset, CID_LENGTH)
            except ValueError:
                return
            end = header[9] if header[9] > offset else len(data)
            if not any(data[end:]):  # padding behind the packets counts for what may be answered (RFC 9000 §8.1)
                end = len(data)
            report = self.core.receive_datagram(data[offset:end], remote, now, len(data))
            if report[2] and header[4]:
                self._tls.remote_initial_source_connection_id = header[4]
                self._peer_cid_length = len(header[4])
            self._drain_handshake()
            offset = end

    def _receive_unprotected(self, data: bytes, now: float) -> bool:
        """Take a Retry or Version Negotiation; returns whether it was one."""
        try:
            version, kind, _, destination, source, token, tag, versions, _, end = pull_quic_header(data, 0, CID_LENGTH)
        except ValueError:
            return True
        if kind == QuicPacketType.VERSION_NEGOTIATION:
            sent_to = self._retry_cid or self._original_cid
            if destination == self.cid and source == sent_to and VERSION not in versions:
                raise HandshakeError("the peer speaks no QUIC version 1")
            return True
        if kind != QuicPacketType.RETRY:
            return False
        if (
            self._retry_cid is None
            and version == VERSION
            and destination == self.cid
            and end == len(data)
            and compare_digest(tag, get_retry_integrity_tag(data[: -len(tag)], self._original_cid, version=VERSION))
        ):
            self._retry_cid = source
            self.core, self._tls = self._begin(source, now)
            self.core.set_initial_token(token)
            self._tls.start()
            self._drain_tls()
        return True

    def _drain_handshake(self) -> None:
        """Pass what came of the handshake on to TLS; what comes behind it stays in the core."""
        core = self.core
        while self.public_key is None and self.fault is None and (event := core.next_event()) is not None:
            kind = event[0]
            if kind == "crypto_data":
                try:
                    self._tls.receive_crypto(tls.Epoch(event[1]), event[3], event[2])
                    self._drain_tls()
                except QuicTlsBridgeError as fault:
                    self._refuse(fault.error_code, str(fault.reason_phrase))
                    self.fault = self._tls.fault or HandshakeError(f"the TLS handshake failed: {fault.reason_phrase}")
            elif kind == "connection_id_issued":
                self.early_cids.append(event[1])
            elif kind == "peer_closed":
                reason = event[4].decode("utf8", "replace")
                self.fault = HandshakeError(f"the peer refused the connection: code {event[2]:#x} {reason}".rstrip())
            elif kind == "protocol_error":
                self.fault = HandshakeError(f"the peer broke QUIC's rules: {event[3]}")
            elif kind == "connection_terminated":
                self.fault = HandshakeError("the peer went silent, or does not know the connection")

    def _drain_tls(self) -> None:
        core, bridge = self.core, self._tls
        while (secret := bridge.next_traffic_secret()) is not None:
            protection, aead = CIPHER_SUITES[secret.cipher_suite]
            if secret.direction == tls.Direction.ENCRYPT and secret.epoch == tls.Epoch.ONE_RTT:
                self._sending = secret
            core.install_packet_key(
                "send" if secret.direction == tls.Direction.ENCRYPT else "receive",
                int(secret.epoch),
                (aead.decode(), protection.decode()),
                secret.key,
                secret.iv,
                secret.hp,
                0,
                secret.secret,
                VERSION,
            )
        while (crypto := bridge.next_crypto_data()) is not None:
            core.send_crypto(int(crypto.epoch), crypto.offset, crypto.data)
        if (parameters := bridge.remote_transport_parameters) is not None:
            bridge.remote_transport_parameters = None
            self.credit_of_ours = parameters.initial_max_stream_data_bidi_remote or 0
            self.credit_of_theirs = parameters.initial_max_stream_data_bidi_local or 0
            core.apply_peer_transport_parameters(
                parameters.initial_max_data or 0,
                parameters.initial_max_stream_data_bidi_local or 0,
                parameters.initial_max_stream_data_bidi_remote or 0,
                parameters.initial_max_stream_data_uni or 0,
                parameters.initial_max_streams_bidi or 0,
                parameters.initial_max_streams_uni or 0,
                3 if parameters.ack_delay_exponent is None else parameters.ack_delay_exponent,
                0.025 if parameters.max_ack_delay is None else parameters.max_ack_delay / 1000,
                parameters.max_idle_timeout / 1000 if parameters.max_idle_timeout else None,
                None,
                parameters.stateless_reset_token,
                2,  # a spare id, no more: its reset token is the core's, no restart can derive it
                bool(parameters.disable_active_migration),
                parameters.max_udp_payload_size,
            )
        if bridge.handshake_complete and self.public_key is None:
            if bridge.public_key is None:
                raise HandshakeError("the peer proved no identity")
            core.handshake_complete()
            if self.client:
                core.discard_keys(int(tls.Epoch.ZERO_RTT))
            self.public_key = bridge.public_key

    def confirmed(self) -> None:
        """The server told that it has all of the handshake."""
        self.core.handshake_confirmed()

    def command(self, operation: Callable[..., object], *arguments: object) -> None:
        """Ask the core for something about a stream. Where either has just ended there is nothing more to ask."""
        try:
            operation(*arguments)
        except (ValueError, RuntimeError):
            pass
        except BaseException as fault:  # noqa: BLE001 - see _broke
            self._broke(fault)

    # --- time and sending -------------------------------------------------------------------------

    def datagrams_to_send(self, now: float, frames: bytes = b"") -> list[tuple[bytes, SocketAddress]]:
        """All that may go out now, each with where to. Whether `frames` went along is told by `carrier`."""
        self.carrier = None
        datagrams: list[tuple[bytes, SocketAddress]] = []
        if self._panicked:
            return datagrams
        try:
            poll = self.core.poll_transmit
            while (transmit := poll(now)) is not None:
                datagrams.append(transmit[:2])
            if frames:
                self._add(datagrams, frames, now)
        except RuntimeError as fault:
            if str(fault) != _NO_ROOM or self.client or self.public_key is not None:
                self._broke(fault)
        except BaseException as fault:  # noqa: BLE001 - see _broke
            self._broke(fault)
        return datagrams

    def _add(self, datagrams: list[tuple[bytes, SocketAddress]], frames: bytes, now: float) -> None:
        """Write frames of ours into the packet of a ping, if one may leave now."""
        core = self.core
        first = self._sending
        if first is None or core.congestion_window - core.bytes_in_flight < 2 * _MAX_DATAGRAM:
            return
        if self._postscript is None:  # few connections are read so much of
            self._postscript = Postscript(first.secret, first.key, first.iv, first.hp, _next_keys)
        self._pings += 1
        core.send_ping(self._pings)
        transmit = core.poll_transmit(now)
        if transmit is None:
            return
        number = core.outstanding_application_packets[-1][0]
        packet = self._postscript.add(transmit[0], self._peer_cid_length, number, frames)
        if packet is not None:
            self.carrier = self._pings
        datagrams.append((packet or transmit[0], transmit[1]))

    def timer(self) -> float | None:
        """When `handle_timer` is due."""
        if self._panicked:
            return None
        timer = self.core.get_timer()
        return None if timer is None else timer[1]

    def handle_timer(self, now: float) -> None:
        """Do what time demands."""
        try:
            self.core.handle_timer(now)
            if self.public_key is None:
                self._drain_handshake()
        except BaseException as fault:  # noqa: BLE001 - see _broke
            self._broke(fault)

    def close(self, code: int) -> None:
        """Tell the peer that it is over; `datagrams_to_send` brings that."""
        self.command(self.core.close, code, None, b"")

    def violated(self, code: int) -> None:
        """Close, for the peer broke a rule that the core does not know of."""
        self.command(self.core.close, code, 8, b"")  # 8: in a STREAM frame

    def _refuse(self, code: int, reason: str) -> None:
        self.command(self.core.close, code, 6, reason.encode()[:64])  # 6: what we read was a CRYPTO frame

    def _broke(self, fault: BaseException) -> None:
        """Whatever a datagram made of qh3 costs this connection alone. A panic of its Rust parts is no Exception."""
        if is_panic(fault):
            self._panicked = True
            self.core, _ = self._begin(os.urandom(CID_LENGTH), 0.0)  # the other answers nobody any more
        elif not isinstance(fault, Exception):
            raise fault
        if self.fault is None:
            self.fault = fault if isinstance(fault, P2PError) else HandshakeError(f"QUIC failed: {fault!r}")
            if not isinstance(fault, P2PError):
                logger.debug("a QUIC connection broke", exc_info=fault)
            if not self._panicked:
                self._refuse(_INTERNAL_ERROR, "")


def is_panic(fault: BaseException) -> bool:
    """Whether qh3's Rust parts gave up: that is no Exception, and has no public name."""
    return type(fault).__name__ == "PanicException"


def _next_keys(secret: bytes) -> tuple[bytes, bytes, bytes]:
    """RFC 9001 §6.1: the traffic secret behind a key update, its key and iv."""
    following = tls.hkdf_expand_label(tls.cipher_suite_hash(SUITE), secret, b"quic ku", b"", len(secret))
    key, iv, _ = derive_key_iv_hp(cipher_suite=SUITE, secret=following, version=VERSION)
    return following, key, iv

"""What the two public runners say in the environment; each has names of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STANDALONE = ("quic-v1",)  # these bring security and muxer along


@dataclass(frozen=True)
class Settings:
    """One test of one process."""

    is_dialer: bool
    transport: str
    security: str
    muxer: str
    ip: str
    """Where a listener binds."""
    redis: str
    """`host:port`."""
    key: str
    """Of the list in Redis through which the address goes."""
    timeout: float
    """Seconds."""
    yaml: bool
    """Whether results are told in YAML, as libp2p/unified-testing reads them; else in libp2p/test-plans' JSON."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Read the environment. Raises ValueError for what is missing or unknown."""
        test_key = environment.get("TEST_KEY")
        names = _UNIFIED if test_key else _TEST_PLANS

        def value(name: str, default: str | None = None) -> str:
            found = environment.get(names[name]) or default
            if found is None:
                raise ValueError(f"the environment says no {names[name]}")
            return found

        transport = value("transport")
        inside = "" if transport in STANDALONE else None
        return cls(
            is_dialer=value("is_dialer").lower() == "true",
            transport=transport,
            security=value("security", inside),
            muxer=value("muxer", inside),
            ip=value("ip", "0.0.0.0"),
            redis=value("redis", "redis:6379"),
            key=f"{test_key}_listener_multiaddr" if test_key else "listenerAddr",
            timeout=float(value("timeout", "180")),
            yaml=test_key is not None,
        )

    def results(self, handshake_plus_rtt: float, rtt: float) -> str:
        """What a dialer measured, in seconds, as its runner wants to read it."""
        both, ping = handshake_plus_rtt * 1e3, rtt * 1e3
        if self.yaml:
            return f"latency:\n  handshake_plus_one_rtt: {both:.3f}\n  ping_rtt: {ping:.3f}\n  unit: ms"
        return f'{{"handshakePlusOneRTTMillis": {both:.3f}, "pingRTTMilllis": {ping:.3f}}}'


_TEST_PLANS = {
    "is_dialer": "is_dialer",
    "transport": "transport",
    "security": "security",
    "muxer": "muxer",
    "ip": "ip",
    "redis": "redis_addr",
    "timeout": "test_timeout_seconds",
}
_UNIFIED = {
    "is_dialer": "IS_DIALER",
    "transport": "TRANSPORT",
    "security": "SECURE_CHANNEL",
    "muxer": "MUXER",
    "ip": "LISTENER_IP",
    "redis": "REDIS_ADDR",
    "timeout": "TEST_TIMEOUT_SECS",
}

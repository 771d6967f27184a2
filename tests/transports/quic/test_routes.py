"""A dial to where no way leads fails at once: no datagram would ever tell."""

from __future__ import annotations

import socket

import pytest

from py_p2pstack.transports.quic.sockets import check_route
from py_p2pstack.transports.sockets import Endpoint


def test_a_way_to_ourselves_is_always_there() -> None:
    check_route(Endpoint(socket.AF_INET, "127.0.0.1", 4001))


def test_what_the_kernel_refuses_to_send_is_told() -> None:
    with pytest.raises(OSError):  # broadcast, which nobody allowed
        check_route(Endpoint(socket.AF_INET, "255.255.255.255", 4001))

"""The floor of bulk transfer: two blocking loops that do nothing but ChaCha20-Poly1305 on a socket, no muxer, no loop.

`python -m benchmarks.floor receive` prints its port, then what it received; `… send PORT SECONDS` sends.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY = bytes(range(32))
PLAINTEXT = 65408  # what our noise puts in a record
NONCE = struct.Struct("<4xQ").pack
LENGTH = struct.Struct(">H")
BATCH = 4


def receive() -> None:
    """Accept one connection, open every record, tell the count and the time."""
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    aead = ChaCha20Poly1305(KEY)
    buffer = bytearray(BATCH * (PLAINTEXT + 18) + 65537)
    view = memoryview(buffer)
    begin = end = nonce = count = 0
    started = time.perf_counter()
    while got := connection.recv_into(view[end:]):
        end += got
        while end - begin >= 2:
            stop = begin + 2 + LENGTH.unpack_from(buffer, begin)[0]
            if stop > end:
                break
            count += len(aead.decrypt(NONCE(nonce), view[begin + 2 : stop], None))
            nonce += 1
            begin = stop
        if begin == end:
            begin = end = 0
        elif len(buffer) - end < 65537:
            view[: end - begin] = bytes(view[begin:end])
            begin, end = 0, end - begin
    print(json.dumps({"bytes": count, "seconds": time.perf_counter() - started}), flush=True)


def send(port: int, seconds: float) -> None:
    """Send sealed records for some seconds."""
    connection = socket.create_connection(("127.0.0.1", port))
    aead = ChaCha20Poly1305(KEY)
    data = os.urandom(PLAINTEXT)
    size = PLAINTEXT + 16
    out = memoryview(bytearray(BATCH * (size + 2)))
    nonce = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index in range(BATCH):
            at = index * (size + 2)
            LENGTH.pack_into(out, at, size)
            aead.encrypt_into(NONCE(nonce), data, None, out[at + 2 : at + 2 + size])
            nonce += 1
        connection.sendall(out)
    connection.close()


def measure(seconds: float) -> float:
    """Run both processes; returns MiB/s."""
    command = [sys.executable, "-m", "benchmarks.floor"]
    with subprocess.Popen([*command, "receive"], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        port = receiver.stdout.readline().strip()
        subprocess.run([*command, "send", port, str(seconds)], check=True)
        result = json.loads(receiver.stdout.readline())
    return float(result["bytes"]) / float(result["seconds"]) / (1 << 20)


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive()
    else:
        send(int(sys.argv[2]), float(sys.argv[3]))

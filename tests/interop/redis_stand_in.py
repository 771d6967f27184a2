"""What the public contract asks of Redis, for machines without one. `test_public.py` compares the two where it can."""

from __future__ import annotations

import socketserver
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class _Lists:
    """The lists, and who waits for one to be filled."""

    def __init__(self) -> None:
        self._lists: defaultdict[str, list[str]] = defaultdict(list)
        self._filled = threading.Condition()

    def run(self, name: str, arguments: list[str]) -> str:
        """Run one command; its reply as it goes over the wire."""
        with self._filled:
            match name.upper(), arguments:
                case "PING", []:
                    return "+PONG\r\n"
                case "DEL", [key]:
                    return f":{int(self._lists.pop(key, None) is not None)}\r\n"
                case "RPUSH", [key, value]:
                    self._lists[key].append(value)
                    self._filled.notify_all()
                    return f":{len(self._lists[key])}\r\n"
                case "BLPOP", [key, seconds]:
                    if self._filled.wait_for(lambda: self._lists[key], float(seconds) or None):
                        return f"*2\r\n{_bulk(key)}{_bulk(self._lists[key].pop(0))}"
                    return "*-1\r\n"
        return f"-ERR unknown command '{name}'\r\n"


def _bulk(text: str) -> str:
    return f"${len(text.encode())}\r\n{text}\r\n"


@contextmanager
def stand_in() -> Iterator[str]:
    """A server on a free port of loopback; its `host:port`."""
    lists = _Lists()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].decode())
                self.wfile.write(lists.run(words[0], words[1:]).encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()

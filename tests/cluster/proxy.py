"""A TCP proxy that misbehaves as networks do: it cuts, swallows and refuses. TLS passes through untouched."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PASS, SWALLOW, REFUSE = "pass", "swallow", "refuse"


class Proxy:
    """Listens on `port` of 127.0.0.1 and connects to `target`. `accepted` counts connections."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._mode = PASS
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self.accepted = 0
        self._open()

    def cut(self) -> None:
        """Reset every connection, in the middle of whatever they are at. New ones are fine."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _reset(end)

    def swallow(self) -> None:
        """From now on nothing comes through, either way, on old connections and new ones; all stay open."""
        self._mode = SWALLOW

    def refuse(self) -> None:
        """Nobody listens any more: connection refused. Old connections are cut."""
        self._mode = REFUSE
        self._close()
        self.cut()

    def heal(self) -> None:
        """Let new connections through. Those that had something swallowed stay dead, silently."""
        self._mode = PASS
        if self._listener is None:
            self._open()

    def close(self) -> None:
        self.refuse()

    def _open(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close(self) -> None:
        if (listener := self._listener) is not None:
            self._listener = None
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(self._target)
            except OSError:
                _reset(client)
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._carry, args=(pair,), daemon=True).start()

    def _carry(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Dead once it has been swallowed from: what comes later would be garbage without it."""
        other = dict((pair, pair[::-1]))
        dead = self._mode == SWALLOW
        try:
            while pair in self._pairs:
                for end in select.select(pair, [], [], 0.02)[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    dead = dead or self._mode == SWALLOW
                    if not dead:
                        other[end].sendall(data)
        except (OSError, ValueError):  # cut
            pass
        finally:
            with self._lock:
                self._pairs.discard(pair)
            for end in pair:
                end.close()


def _reset(end: socket.socket) -> None:
    """Close with RST: the other side gets an error, and no end of file that could pass for a proper end."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    proxy = Proxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()


def torment(proxy: Proxy, seconds: float, luck: Iterator[float]) -> None:
    """All that it can do, one after the other, for about so long; whole again at the end."""
    end = time.monotonic() + seconds
    faults = (proxy.cut, proxy.swallow, proxy.refuse)
    while time.monotonic() < end:
        faults[int(next(luck) * len(faults))]()
        time.sleep(0.1 + 0.8 * next(luck))
        proxy.heal()
        time.sleep(0.2 + 1.0 * next(luck))
    proxy.heal()

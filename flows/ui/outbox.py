"""A bounded queue of the newest things to tell: what is told twice before it is taken is taken once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """First in, first out by key; a newer item takes its older one's place; `put` waits for no reader."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.dropped = 0
        self._items: OrderedDict[Hashable, T] = OrderedDict()
        self._changed = threading.Condition()

    def put(self, key: Hashable, item: T, urgent: bool = False) -> bool:
        """False when it is full, and the item is lost; `urgent` items have room always."""
        with self._changed:
            if key not in self._items and len(self._items) >= self.size and not urgent:
                self.dropped += 1
                return False
            self._items[key] = item
            self._changed.notify()
            return True

    def take(self, timeout: float) -> tuple[Hashable, T] | None:
        """The oldest item; None when nothing came for `timeout` seconds."""
        with self._changed:
            if not self._items:
                self._changed.wait(timeout)
            return self._items.popitem(last=False) if self._items else None

    def put_back(self, key: Hashable, item: T) -> None:
        """What could not be told goes to the front, unless something newer has come."""
        with self._changed:
            if key not in self._items:
                self._items[key] = item
                self._items.move_to_end(key, last=False)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def drop_all(self) -> None:
        with self._changed:
            self.dropped += len(self._items)
            self._items.clear()

    def __len__(self) -> int:
        return len(self._items)

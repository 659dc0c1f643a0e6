"""Containers for what callers send, bounded by bytes: a bound by count is none where callers choose the size.

Each entry's size is given when it is put in. Sizes are those that the process pays for, objects and their headers
included, so that a container's bound is what it takes of the memory.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from sys import getsizeof
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

ENTRY_BYTES: Final = 200
"""What a container adds for an entry of its own: its place, its size, its part of spare room."""


class BoundedQueue(Generic[Item]):
    """First in, first out, of at most so many bytes.

    Args:
        max_bytes: Bytes at most; an item that is larger alone is never taken.
        size: Returns the bytes of an item.
    """

    def __init__(self, max_bytes: int, size: Callable[[Item], int]) -> None:
        self._max_bytes = max_bytes
        self._size = size
        self._items: deque[tuple[Item, int]] = deque()
        self.bytes = 0
        """Bytes of all items."""

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return (item for item, _ in self._items)

    def offer(self, item: Item) -> bool:
        """Put an item at the end where there is room for it; return whether there was."""
        size = self._size(item) + ENTRY_BYTES
        if self.bytes + size > self._max_bytes:
            return False
        self._items.append((item, size))
        self.bytes += size
        return True

    def push(self, item: Item) -> int:
        """Put an item at the end, and drop the oldest until it fits; return how many were dropped, itself perhaps."""
        size = self._size(item) + ENTRY_BYTES
        if size > self._max_bytes:
            return 1
        self._items.append((item, size))
        self.bytes += size
        return self._shrink()

    def give_back(self, items: Sequence[Item]) -> int:
        """Put items back to the front, in their order; return how many of the oldest were dropped for it."""
        for item in reversed(items):
            size = self._size(item) + ENTRY_BYTES
            self._items.appendleft((item, size))
            self.bytes += size
        return self._shrink()

    def popleft(self) -> Item:
        """Take the oldest item; IndexError when there is none."""
        item, size = self._items.popleft()
        self.bytes -= size
        return item

    def take(self, most: int) -> list[Item]:
        """Take the oldest items, up to `most`."""
        return [self.popleft() for _ in range(min(most, len(self._items)))]

    def _shrink(self) -> int:
        dropped = 0
        while self.bytes > self._max_bytes:
            self.popleft()
            dropped += 1
        return dropped


class BoundedTexts(Generic[Key]):
    """A text for each key, of at most so many bytes; what was set longest ago is forgotten first.

    Args:
        max_bytes: Bytes at most.
        max_keys: Keys at most.
    """

    def __init__(self, max_bytes: int, max_keys: int) -> None:
        self._max_bytes = max_bytes
        self._max_keys = max_keys
        self._texts: OrderedDict[Key, str] = OrderedDict()
        self.bytes = 0
        """Bytes of all keys and texts."""

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: Key) -> str | None:
        """Return the key's text, None when there is none."""
        return self._texts.get(key)

    def set(self, key: Key, text: str) -> list[Key]:
        """Set the key's text, which makes it the latest; return the keys that were forgotten for it."""
        before = self._texts.pop(key, None)
        if before is not None:
            self.bytes -= _entry_bytes(key, before)
        self._texts[key] = text
        self.bytes += _entry_bytes(key, text)
        forgotten: list[Key] = []
        while self.bytes > self._max_bytes or len(self._texts) > self._max_keys:
            oldest, text = self._texts.popitem(last=False)
            self.bytes -= _entry_bytes(oldest, text)
            forgotten.append(oldest)
        return forgotten


def _entry_bytes(key: Hashable, text: str) -> int:
    return getsizeof(key) + getsizeof(text) + ENTRY_BYTES

"""Bounds containers for callers' data by bytes: a bound by count is none where callers choose the size.

The map is bounded by count, or by what its owner counts. In the others, each entry's size is given when it is put in.
Sizes are those that the process pays for, objects and their headers included, so that a container's bound is what it
takes of the memory.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from sys import getsizeof
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

ENTRY_BYTES: Final = 200
"""What a container adds for an entry of its own: its place, its size, its part of spare room."""


class BoundedQueue(Generic[Item]):
    """First-in-first-out queue of at most so many bytes.

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
        """Append an item if there is room; return whether there was."""
        size = self._size(item) + ENTRY_BYTES
        if self.bytes + size > self._max_bytes:
            return False
        self._items.append((item, size))
        self.bytes += size
        return True

    def push(self, item: Item) -> int:
        """Append an item, and drop the oldest until it fits; return the number dropped, perhaps including itself."""
        size = self._size(item) + ENTRY_BYTES
        if size > self._max_bytes:
            return 1
        self._items.append((item, size))
        self.bytes += size
        return self._shrink()

    def give_back(self, items: Sequence[Item]) -> int:
        """Put items back to the front, in their order; return the number of oldest ones dropped for them."""
        for item in reversed(items):
            size = self._size(item) + ENTRY_BYTES
            self._items.appendleft((item, size))
            self.bytes += size
        return self._shrink()

    def popleft(self) -> Item:
        """Remove and return the oldest item; IndexError if the queue is empty."""
        item, size = self._items.popleft()
        self.bytes -= size
        return item

    def take(self, most: int) -> list[Item]:
        """Remove and return the oldest items, up to `most`."""
        return [self.popleft() for _ in range(min(most, len(self._items)))]

    def _shrink(self) -> int:
        dropped = 0
        while self.bytes > self._max_bytes:
            self.popleft()
            dropped += 1
        return dropped


class BoundedMap(OrderedDict[Key, Value]):
    """Map with a bounded number of keys; the key put longest ago is dropped first.

    Reading is a dictionary's own, and costs no more.

    Args:
        most: Keys at most; None where the owner drops by `drop_while`.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self._most = most

    def put(self, key: Key, value: Value) -> tuple[Key, Value] | None:
        """Set the key's value and make it the latest; return the dropped item, if any."""
        self[key] = value
        self.move_to_end(key)
        if self._most is not None and len(self) > self._most:
            return self.popitem(last=False)
        return None

    def oldest(self) -> tuple[Key, Value]:
        """Return the item put longest ago; StopIteration if the map is empty."""
        return next(iter(self.items()))

    def drop_while(self, is_over: Callable[[], bool]) -> Iterator[tuple[Key, Value]]:
        """Drop the oldest items, and yield each, while a condition holds."""
        while is_over():
            yield self.popitem(last=False)


class BoundedTexts(Generic[Key]):
    """Map of texts with a bounded number of bytes; the key set longest ago is dropped first.

    Args:
        max_bytes: Bytes at most.
        max_keys: Keys at most.
    """

    def __init__(self, max_bytes: int, max_keys: int) -> None:
        self._max_bytes = max_bytes
        self._max_keys = max_keys
        self._texts: BoundedMap[Key, str] = BoundedMap()
        self.bytes = 0
        """Bytes of all keys and texts."""

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: Key) -> str | None:
        """Return the key's text, None if it has none."""
        return self._texts.get(key)

    def set(self, key: Key, text: str) -> list[Key]:
        """Set the key's text and make it the latest; return the keys dropped for it."""
        before = self._texts.pop(key, None)
        if before is not None:
            self.bytes -= _entry_bytes(key, before)
        self._texts[key] = text  # the latest, as it was taken out
        self.bytes += _entry_bytes(key, text)
        forgotten: list[Key] = []
        for oldest, dropped in self._texts.drop_while(self._is_over):
            self.bytes -= _entry_bytes(oldest, dropped)
            forgotten.append(oldest)
        return forgotten

    def _is_over(self) -> bool:
        return self.bytes > self._max_bytes or len(self._texts) > self._max_keys


def _entry_bytes(key: Hashable, text: str) -> int:
    return getsizeof(key) + getsizeof(text) + ENTRY_BYTES

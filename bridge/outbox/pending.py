"""Keeps messages that wait for the relay in memory, for the time when Postgres is away."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from sys import getsizeof
from typing import Final
from uuid import UUID

from bridge.kafka.message import Message

MAX_KEYS: Final = 20_000
"""Messages remembered; beyond, the oldest are forgotten, and their order with later ones is not kept in an outage."""
MAX_BYTES: Final = 24 << 20
"""Bytes of theirs that are: their metadata can make each of them large."""
MESSAGE_BYTES: Final = 1500
"""What a message takes of the memory beside the texts of its value and headers."""


class PendingByKey:
    """Remembers messages by key, so that a later message of the key can be sent after them without the outbox.

    Args:
        most: Messages at most.
        max_bytes: Bytes of theirs at most.
        evicted: Called with each message that is dropped because too many wait.
    """

    def __init__(
        self, most: int = MAX_KEYS, max_bytes: int = MAX_BYTES, evicted: Callable[[UUID], None] = lambda _: None
    ) -> None:
        self._evicted = evicted
        self._most = most
        self._max_bytes = max_bytes
        self._bytes = 0
        self._messages: OrderedDict[UUID, Message] = OrderedDict()
        self._by_key: dict[str, list[UUID]] = {}

    def remember(self, message: Message) -> None:
        """Keep a message that the relay must send."""
        if message.event_id in self._messages:
            return
        self._messages[message.event_id] = message
        self._bytes += message_bytes(message)
        self._by_key.setdefault(message.key, []).append(message.event_id)
        while len(self._messages) > self._most or self._bytes > self._max_bytes:
            oldest = next(iter(self._messages))
            self.forget([oldest])
            self._evicted(oldest)

    def __contains__(self, event_id: UUID) -> bool:
        return event_id in self._messages

    def found(self, messages: Iterable[Message]) -> None:
        """Keep messages found in the outbox, in its order, before those left since."""
        by_key: dict[str, list[Message]] = {}
        for message in messages:
            by_key.setdefault(message.key, []).append(message)
        for key, shown in by_key.items():
            ids = {message.event_id for message in shown}
            for message in (*shown, *[one for one in self.take(key) if one.event_id not in ids]):
                self.remember(message)

    def forget(self, event_ids: Iterable[UUID]) -> None:
        """Drop messages that were sent."""
        for event_id in event_ids:
            message = self._messages.pop(event_id, None)
            if message is None:
                continue
            self._bytes -= message_bytes(message)
            left = self._by_key[message.key]
            left.remove(event_id)
            if not left:
                del self._by_key[message.key]

    def take(self, key: str) -> list[Message]:
        """Return the messages of a key in their order, and drop them."""
        if not self._by_key:
            return []
        taken = [self._messages.pop(event_id) for event_id in self._by_key.pop(key, ())]
        self._bytes -= sum(map(message_bytes, taken))
        return taken

    def event_ids(self) -> list[UUID]:
        """Return the event ids of the remembered messages."""
        return [*self._messages]


def message_bytes(message: Message) -> int:
    """Return the bytes that a message holds in memory, however large its caller makes it."""
    return MESSAGE_BYTES + getsizeof(message.value) + sum(map(getsizeof, message.headers.values()))

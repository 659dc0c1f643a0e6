"""Collects messages by user, and writes their contents and the offsets after them to the store in one batch."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import lmdb
import structlog

from recsvc.domain.interaction import PREFERENCE_WEIGHTS, Interaction, value
from recsvc.follower.topics.message import (
    ERASED_AT,
    EVENT_ID,
    INTERACTIONS,
    RATING,
    MalformedError,
    NewerSchemaError,
    read_erasure,
    read_interaction,
    read_update,
)
from recsvc.follower.topics.oddities import DEFECT, MALFORMED, NEWER_SCHEMA, Oddities
from recsvc.follower.topics.recent_events import RecentEvents
from recsvc.live_state.batch import Batch
from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.profile import DamagedError, Row, row_of
from servicekit.user_fingerprint import user_fingerprint

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""

COUNTED_MS: Final = 7 * 24 * HOUR_MS
"""Interactions count for popularity as long after they happened as the topic keeps them."""
UNKNOWN_MS: Final = -1
"""Length of a video that nobody knows."""
_OVERHEAD: Final = 512
"""Bytes that a gathered message takes besides its own."""

logger = structlog.get_logger(__name__)


class MovedError(Exception):
    """The store's offsets are not those that were read from: it is another store, and what was read is void."""


class Gathering:
    """Messages that were read and are not written yet.

    Args:
        now_ms: Milliseconds since 1970 UTC: nothing happened later, whatever clock told it.
        recent: Tells repeated deliveries.
        duration_ms: Length of a video, -1 where unknown.
        oddities: Told of what cannot be read.
    """

    def __init__(
        self, now_ms: int, recent: RecentEvents, duration_ms: Callable[[str], int], oddities: Oddities
    ) -> None:
        self._now_ms = now_ms
        self._recent = recent
        self._duration_ms = duration_ms
        self._oddities = oddities
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)
        self._told_ms: dict[str, int] = {}
        self._sums: defaultdict[tuple[int, str], float] = defaultdict(float)
        self.forgotten: dict[str, int] = {}
        """Users, and up to when all that they did is to be forgotten."""
        self.ends: dict[Place, tuple[int, int]] = {}
        """The offset after the last message of each partition, and when that was written."""
        self.messages = 0
        self.bytes = 0

    def take(self, messages: Iterable[Any]) -> None:
        """Add the contents of messages; one that cannot be read is counted, and the others are added all the same."""
        for message in messages:
            timestamp = message.timestamp()
            self.ends[message.topic(), message.partition()] = (message.offset() + 1, timestamp[1])
            self.messages += 1
            self.bytes += _OVERHEAD + len(message)
            try:
                self._take(message, timestamp)
            except MalformedError as error:
                self._oddities.add(MALFORMED, message, error)
            except NewerSchemaError as error:
                self._oddities.add(NEWER_SCHEMA, message, error)
            except Exception as error:  # noqa: BLE001  # counted apart, as it is a fault of this program
                self._oddities.add(DEFECT, message, error)

    def _take(self, message: Any, timestamp: tuple[int, int]) -> None:
        content = message.value()
        headers: dict[str, Any] = dict(message.headers() or ())
        if content is None:
            user_id, at_ms = read_erasure(message.key(), headers.get(ERASED_AT), timestamp)
            at_ms = min(at_ms, self._now_ms)
            self.forgotten[user_id] = max(at_ms, self.forgotten.get(user_id, at_ms))
        elif message.topic() == INTERACTIONS:
            event_id = headers.get(EVENT_ID)
            if event_id and self._recent.is_repeated(event_id, message.key() or b""):
                return
            user_id, one = read_interaction(content, headers.get(RATING))
            self._learn(user_id, one)
            self._count(one)
        else:
            told = read_update(message.key(), content)
            for one in told.interactions:
                self._learn(told.user_id, one)
            if told.told_ms is not None:
                self._told_ms[told.user_id] = min(told.told_ms, self._now_ms)
            if told.odd:
                self._oddities.add(MALFORMED, message, ValueError("interactions of an update"), times=told.odd)

    def _learn(self, user_id: str, one: Interaction) -> None:
        if one.at_ms > self._now_ms:
            one = one._replace(at_ms=self._now_ms)  # else no deletion would reach it
        self._rows[user_id].append(row_of(one))

    def _count(self, one: Interaction) -> None:
        at_ms = min(one.at_ms, self._now_ms)
        if at_ms <= self._now_ms - COUNTED_MS:
            return
        duration_ms = self._duration_ms(one.video_id) if PREFERENCE_WEIGHTS[one.kind].watched else UNKNOWN_MS
        worth = value(one, duration_ms)
        if worth > 0:
            self._sums[at_ms // HOUR_MS, one.video_id] += worth

    def apply(self, batch: Batch, stored: Mapping[Place, int]) -> None:
        """Write the collected contents and offsets to the store.

        Args:
            batch: Of the store.
            stored: The offsets that the store had when the messages were read.

        Raises:
            MovedError: The store has others.
        """
        for place in self.ends:
            known = batch.reached(*place)
            if (known[0] if known else None) != stored.get(place):
                raise MovedError
        for user_id, at_ms in self.forgotten.items():
            batch.forget(user_fingerprint(user_id), at_ms, user_id=user_id)
        for user_id, rows in self._rows.items():
            try:
                batch.learn(user_id, rows, told_ms=self._told_ms.get(user_id, self._now_ms))
            except (lmdb.Error, DamagedError):
                raise
            except Exception:  # one user's defect is no other's: the rest would never be written
                logger.exception("live.user_defect")
        batch.count(self._sums)
        for (topic, partition), (offset, at_ms) in self.ends.items():
            batch.advance(topic, partition, offset, at_ms)

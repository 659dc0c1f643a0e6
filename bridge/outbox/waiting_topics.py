"""Remembers topics that take no messages, such as a missing one, so that messages to others go on."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

import structlog

from bridge.domain.deadline import Clock

WAIT_S: Final = 3.0
"""Seconds until such a topic is tried again; nothing is lost where all of Kafka was away."""

logger = structlog.get_logger(__name__)


class WaitingTopics:
    """Remembers which topics refused all messages when last tried."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._told: set[str] = set()

    def topics(self) -> list[str]:
        """Return the topics that are not to be tried now."""
        return [topic for topic, until in self._until.items() if until > self._clock()]

    def settled(self, *, failed: AbstractSet[str], taken: Collection[str]) -> None:
        """Record which topics refused messages and which took some; log once where only some refuse."""
        self._told.difference_update(taken)
        for topic in taken:
            self._until.pop(topic, None)
        for topic in failed - {*taken}:
            self._until[topic] = self._clock() + WAIT_S
        fresh = self._until.keys() - self._told
        if taken and fresh:
            self._told |= fresh
            logger.warning("outbox.topics_wait", topics=sorted(fresh))

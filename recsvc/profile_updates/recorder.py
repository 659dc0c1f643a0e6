"""Makes the updates and erasures that callers send durable, and known to the next page of this machine.

With Kafka, Kafka has it before the call is answered, or this machine's disk until Kafka does; the local store then only
makes it known at once, which the follower would do a moment later. Without Kafka, the local store is all there is.
Whatever is applied twice changes nothing.
"""

import time
from collections.abc import Callable, Sequence
from enum import IntEnum, auto
from typing import Final

import lmdb
import structlog

from recsvc.domain.interaction import Interaction
from recsvc.live_state.batch import Batch
from recsvc.live_state.pending import Pending
from recsvc.live_state.profile import row_of
from recsvc.live_state.store import PATIENCE_S, LiveStore
from recsvc.profile_updates.message import TOPIC, Message, erasure_message, update_message
from recsvc.profile_updates.producer import UpdateProducer
from servicekit.grpc.errors import unavailable
from servicekit.user_fingerprint import user_fingerprint

RETRY_AFTER_S: Final = 1.0
MARGIN_S: Final = 0.05
"""Seconds before the caller's deadline in which the disk is written and the reply sent."""
MIN_PATIENCE_S: Final = 0.05
"""Seconds to wait for another writer, however near the deadline is."""

logger = structlog.get_logger(__name__)


class Durability(IntEnum):
    """The place where a change is kept."""

    KAFKA = auto()
    """On all in-sync replicas of its partition."""
    MACHINE = auto()
    """On this machine's disk."""


class ProfileRecorder:
    """Takes updates and deletions of profiles, for many threads.

    Args:
        store: What this machine knows.
        share: Without Kafka, tells other servers of a forgotten user's fingerprint and the time; None for nobody.
        kafka: Brings changes to Kafka; None without Kafka.
        clock: Seconds, ascending.
    """

    def __init__(
        self,
        store: LiveStore,
        *,
        share: Callable[[bytes, int], None] | None = None,
        kafka: UpdateProducer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._share = share
        self._kafka = kafka
        self._clock = clock
        self._pending: Pending | None = None

    def update(self, user_id: str, interactions: Sequence[Interaction], *, told_ms: int, within_s: float) -> Durability:
        """Keep what a user did, and return where.

        ServiceError: UNAVAILABLE when nothing takes it; then nothing is kept.

        Args:
            user_id: The user.
            interactions: None of them later than `told_ms`.
            told_ms: Now, milliseconds since 1970 UTC.
            within_s: Seconds until the caller's deadline.
        """
        rows, deadline = [*map(row_of, interactions)], self._clock() + within_s

        def learn(batch: Batch) -> None:
            batch.learn(user_id, rows, told_ms=told_ms)

        if self._kafka is None:
            self._keep(learn, deadline)
            return Durability.MACHINE
        durability = self._send(self._kafka, update_message(user_id, interactions, told_ms=told_ms), deadline)
        self._make_known(learn, deadline)
        return durability

    def forget(self, user_id: str, *, at_ms: int, within_s: float) -> Durability:
        """Forget a user, and return where that is kept.

        ServiceError: UNAVAILABLE when nothing takes it; or, without Kafka, when other servers could not be told: this
        one has forgotten then.

        Args:
            user_id: The user.
            at_ms: Up to when all is forgotten: now, milliseconds since 1970 UTC.
            within_s: Seconds until the caller's deadline.
        """
        mark, deadline = user_fingerprint(user_id), self._clock() + within_s

        def forget(batch: Batch) -> None:
            batch.forget(mark, at_ms, user_id=user_id)

        if self._kafka is None:
            self._keep(forget, deadline)
            if self._share:
                self._share(mark, at_ms)
            return Durability.MACHINE
        durability = self._send(self._kafka, erasure_message(user_id, at_ms=at_ms), deadline)
        self._make_known(forget, deadline)
        return durability

    def stop(self) -> None:
        """End the connections to Kafka."""
        if self._kafka:
            self._kafka.stop()

    def _send(self, kafka: UpdateProducer, message: Message, deadline: float) -> Durability:
        """Have Kafka take a message, or else keep it for Kafka."""
        if kafka.send(message, within_s=self._left_s(deadline)):
            return Durability.KAFKA
        try:
            self._pending = self._pending or Pending(self._store.folder)
            self._pending.add(TOPIC, message.key, message.value, message.headers)
        except (OSError, lmdb.Error) as error:
            logger.warning("profiles.not_kept", problem=str(error))
            raise _refusal() from None
        return Durability.MACHINE

    def _keep(self, change: Callable[[Batch], None], deadline: float) -> None:
        """Write a change to the store, where it must be kept."""
        try:
            self._write(change, deadline)
        except (OSError, lmdb.Error) as error:
            logger.warning("profiles.not_kept", problem=str(error))
            raise _refusal() from None

    def _make_known(self, change: Callable[[Batch], None], deadline: float) -> None:
        """Write a change to the store, which learns of it by Kafka otherwise."""
        try:
            self._write(change, deadline)
        except (OSError, lmdb.Error) as error:
            logger.info("profiles.known_later", problem=str(error))

    def _write(self, change: Callable[[Batch], None], deadline: float) -> None:
        patience_s = max(MIN_PATIENCE_S, min(PATIENCE_S, self._left_s(deadline)))
        with self._store.writing(patience_s=patience_s) as batch:
            change(batch)

    def _left_s(self, deadline: float) -> float:
        return deadline - self._clock() - MARGIN_S


def _refusal() -> Exception:
    return unavailable("PROFILES_UNAVAILABLE", "profiles cannot be written now", retry_after_s=RETRY_AFTER_S)

"""Records feedback in Postgres or, while that is away, in Kafka, from where a `Backfill` copies it to Postgres."""

import asyncio
from typing import Final

from bridge.domain.deadline import Clock
from bridge.domain.event_identity import identity_of
from bridge.ingest.acknowledgement import NotDurableError
from bridge.ingest.feedback import Feedback
from bridge.ingest.transactional_write import COMMIT_TIMEOUT_S, NotWrittenError, TransactionalWriter
from bridge.outbox.late_commits import LateCommit

AWAY: Final = "feedback cannot be made durable now"


class FeedbackRecorder:
    """Makes feedback durable.

    Args:
        writer: Writes it to Postgres, and sends what cannot be written.
        clock: Monotonic seconds.
    """

    def __init__(self, writer: TransactionalWriter, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock

    async def record(self, feedback: Feedback, *, timeout_s: float) -> bool:
        """Record feedback durably, and return whether it was new, as far as is known; NotDurableError otherwise."""
        accepted_at = self._clock()
        try:
            return await self._writer.write(feedback.record, timeout_s=min(timeout_s, COMMIT_TIMEOUT_S), hand_over=True)
        except NotWrittenError as error:
            late_commit, left_s = error.late_commit, accepted_at + timeout_s - self._clock()
            if late_commit is None:
                raise
            if left_s <= 0 or not await self._writer.may_pass_by(wait_s=0):
                late_commit.on_outcome(_identity(feedback), durable=False)
                raise
        return await self._send(feedback, accepted_at, left_s, late_commit)

    async def _send(self, feedback: Feedback, accepted_at: float, timeout_s: float, late_commit: LateCommit) -> bool:
        sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
            late_commit.on_outcome(_identity(feedback), durable=durable)
            if not sent.done():
                sent.set_result(durable)

        self._writer.pass_by(feedback.message(unrecorded=True), accepted_at, ended)
        done, _ = await asyncio.wait([sent], timeout=timeout_s)
        if not done or not sent.result():
            raise NotDurableError(AWAY)
        return True


def _identity(feedback: Feedback) -> bytes:
    return identity_of(feedback.event_id, feedback.user_id)

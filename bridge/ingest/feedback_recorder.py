"""Takes feedback in: durable in Postgres or, while that is away, in Kafka, from where a `Backfill` brings it there."""

import asyncio
from typing import Final

from bridge.domain.deadline import Clock
from bridge.ingest.acknowledgement import NotDurableError
from bridge.ingest.feedback import Feedback
from bridge.ingest.recorder import COMMIT_TIMEOUT_S, ORDER_WAIT_S
from bridge.ingest.transactional_write import TransactionalWriter
from bridge.outbox.outbox import Outbox
from bridge.postgres.availability import Availability

AWAY: Final = "feedback cannot be made durable now"


class FeedbackRecorder:
    """Makes feedback durable.

    Args:
        journal: Writes to Postgres.
        outbox: Sends what cannot be written; None for no Kafka.
        availability: Whether Postgres answers.
        clock: Monotonic seconds.
        order_wait_s: Seconds after Postgres was lost in which nothing passes by an outbox that is not known.
    """

    def __init__(
        self,
        journal: TransactionalWriter,
        outbox: Outbox | None,
        availability: Availability,
        clock: Clock,
        *,
        order_wait_s: float = ORDER_WAIT_S,
    ) -> None:
        self._journal = journal
        self._outbox = outbox
        self._availability = availability
        self._clock = clock
        self._order_wait_s = order_wait_s

    async def record(self, feedback: Feedback, *, timeout_s: float) -> bool:
        """Return whether it was new, as far as can be known, once it is durable; else NotDurableError.

        A commit that comes too late to be waited for may leave the message in Kafka twice, with one `event-id`.
        """
        accepted_at = self._clock()
        try:
            return await self._journal.write(feedback.record, timeout_s=min(timeout_s, COMMIT_TIMEOUT_S))
        except NotDurableError:
            left_s = accepted_at + timeout_s - self._clock()
            if self._outbox is None or left_s <= 0 or not self._may_pass_by(self._outbox):
                raise
            return await self._send(self._outbox, feedback, accepted_at, left_s)

    def _may_pass_by(self, outbox: Outbox) -> bool:
        """Return whether what is sent now cannot overtake what is left in the outbox, or that was waited for enough."""
        return outbox.known or (self._availability.away and self._availability.away_s >= self._order_wait_s)

    async def _send(self, outbox: Outbox, feedback: Feedback, accepted_at: float, timeout_s: float) -> bool:
        sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
            if not sent.done():
                sent.set_result(durable)

        outbox.send_unrecorded(feedback.message(unrecorded=True), accepted_at, ended)
        done, _ = await asyncio.wait([sent], timeout=timeout_s)
        if not done or not sent.result():
            raise NotDurableError(AWAY)
        return True

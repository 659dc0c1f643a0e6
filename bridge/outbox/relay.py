"""Sends the rows that any process left behind in the outbox, and sets aside those that Kafka will never take.

Only one process relays at a time, so that the messages of each key keep their order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from bridge.domain.deadline import Clock
from bridge.kafka.message import Message
from bridge.outbox.outbox import Outbox, Publisher
from bridge.outbox.rejected_messages import count_dead, set_aside
from bridge.outbox.table import count_waiting, delete, left_behind, lock_relay, still_there
from bridge.outbox.waiting_topics import WaitingTopics
from bridge.postgres.pool import Connection, Database, DatabaseUnavailableError
from servicekit.telemetry.metrics import Metric, Metrics

BATCH: Final = 1000
CHUNK: Final = 100
"""Messages sent before live traffic has its turn."""
REST: Final = 1.0
"""Pause after a batch of which more will follow, for live traffic, as a multiple of the time that the batch took."""
PAUSE_S: Final = 1.0
YOUNG_S: Final = 2.0
"""Seconds in which a row is left to the process that made it."""
MAX_IN_FLIGHT: Final = 10_000
"""Messages in the producer above which the relay adds none."""
DEPTH_INTERVAL_S: Final = 10.0

logger = structlog.get_logger(__name__)


class Relay:
    """Moves rows from Postgres to Kafka. Belongs to the event loop of its outbox.

    Args:
        database: Where the rows are.
        outbox: Knows which rows this process sends itself.
        publisher: Sends messages.
        metrics: Told how much is left.
        clock: Monotonic seconds.
        sleep: Pauses between two looks.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        publisher: Publisher,
        metrics: Metrics,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._waiting = WaitingTopics(clock)

    async def run(self) -> None:
        """Send the rows left behind, and report their number; forever."""
        depth_due = self._clock()
        while True:
            sent, begin = 0, self._clock()
            try:
                sent = await self.relay_batch()
                if self._clock() >= depth_due:
                    depth_due = self._clock() + DEPTH_INTERVAL_S
                    await self._report()
            except DatabaseUnavailableError:
                pass  # the database says so itself, once
            await self._sleep(PAUSE_S if sent < BATCH / 2 else REST * (self._clock() - begin))

    async def relay_batch(self) -> int:
        """Send one batch of rows left behind, in order; return how many are settled: in Kafka, or refused for good.

        While another process relays, nothing is sent.
        """
        if self._outbox.sent_count > MAX_IN_FLIGHT:
            return 0
        sent: list[UUID] = []
        refused: dict[UUID, str] = {}
        try:
            async with self._database.connection() as connection:
                if not await lock_relay(connection):
                    return 0
                waiting = self._waiting.topics()
                found = await left_behind(connection, age_s=YOUNG_S, most=BATCH, without=waiting)
                # Judged only now: had one of them failed meanwhile, later ones of its key would be sent before it.
                messages = [message for message in found.messages if not self._outbox.is_held(message.event_id)]
                self._outbox.on_scan(messages)
                sent, refused = await self._send(messages)
                refused |= found.odd
                # What a process that has died just now left behind is too young to be found by the first looks.
                self._outbox.end_scan(complete=found.rows < BATCH and not waiting, settled_s=YOUNG_S + PAUSE_S)
                await self._remove(connection, sent, refused)
        except DatabaseUnavailableError:
            self._outbox.mark_acknowledged(sent)  # the rows may still be there: they are not sent again
            raise
        return len(sent) + len(refused)

    async def _remove(self, connection: Connection, sent: Sequence[UUID], refused: Mapping[UUID, str]) -> None:
        """Delete the rows that Kafka has, and set aside those that it refuses for good."""
        if sent:
            await delete(connection, sent)
            self._outbox.mark_gone(sent)
            logger.info("outbox.relayed", messages=len(sent))
        if refused:
            await set_aside(connection, refused)
            self._outbox.mark_gone(refused)
            self._metrics.count(Metric.DEAD_LETTERS, len(refused))

    async def _report(self) -> None:
        left = self._outbox.left_to_relay()
        async with self._database.connection() as connection:
            self._metrics.gauge(Metric.OUTBOX_DEPTH, await count_waiting(connection))
            self._metrics.gauge(Metric.OUTBOX_DEAD, await count_dead(connection))
            if left:  # some of it may have been sent by other processes
                self._outbox.mark_gone(set(left) - await still_there(connection, left))

    async def _send(self, messages: Sequence[Message]) -> tuple[list[UUID], dict[UUID, str]]:
        """Publish all; return, once each outcome is known, the durable ones and the reasons of permanent refusals."""
        refusals = self._publisher.refusals
        failed: list[Message] = []
        outcomes: list[asyncio.Future[bool]] = []
        for start in range(0, len(messages), CHUNK):
            if failed:
                break  # what follows could overtake it
            outcomes += self._publish(messages[start : start + CHUNK], failed)
            await self._sleep(0)
        acknowledged = await asyncio.gather(*outcomes)
        sent = [message.event_id for message, well in zip(messages, acknowledged, strict=False) if well]
        self._outbox.mark_relayed(sent)
        durable = {*sent}
        self._waiting.settled(
            failed={message.topic for message in failed},
            taken={message.topic for message in messages if message.event_id in durable},
        )
        if not failed or self._publisher.refusals == refusals:
            return sent, {}
        again = [message for message, well in zip(messages, acknowledged, strict=False) if not well]
        deliveries = await self._publisher.send_singly(again)
        pairs = [*zip((message.event_id for message in again), deliveries, strict=True)]
        sent += [event_id for event_id, delivery in pairs if delivery.durable]
        return sent, {event_id: delivery.refusal for event_id, delivery in pairs if delivery.refusal}

    def _publish(self, chunk: Sequence[Message], failed: list[Message]) -> list["asyncio.Future[bool]"]:
        """Send messages at once; append failed ones to a list before anything else can be sent."""
        loop = asyncio.get_running_loop()
        # Told no earlier, as later messages of their keys are sent straight away from then on.
        self._outbox.mark_relaying(message.event_id for message in chunk)
        outcomes = []
        for message in chunk:
            outcome: asyncio.Future[bool] = loop.create_future()
            self._publisher.publish(message, partial(self._relayed, message, failed, outcome))
            outcomes.append(outcome)
        return outcomes

    def _relayed(
        self,
        message: Message,
        failed: list[Message],
        outcome: "asyncio.Future[bool]",
        acknowledged: bool,  # noqa: FBT001  # a callback
    ) -> None:
        if not acknowledged:
            failed.append(message)
            self._outbox.leave_to_relay(message)  # at once: a later message of its key must not be sent before it
        if not outcome.done():
            outcome.set_result(acknowledged)

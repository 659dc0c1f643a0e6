"""Publishes messages to Kafka, and replaces a producer that stops acknowledging."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException

from bridge.domain.deadline import Clock
from bridge.kafka.message import Message
from bridge.kafka.producer import PRODUCER, REFUSED, Done, Producer
from bridge.kafka.single_sender import Delivery, SingleMessageSender
from servicekit.telemetry.metrics import Metric, Metrics, NoMetrics

STALL_S: Final = 15.0
LOOK_S: Final = 1.0
EXCHANGE_S: Final = 2.0
"""Seconds that messages under way get before another producer takes over; new ones go to the outbox meanwhile."""

logger = structlog.get_logger(__name__)


class KafkaPublisher:
    """Publishes from one event loop. Messages of one key arrive in the order of `publish`.

    When a message fails, all behind it are failed too: otherwise a later one of its key could arrive before it.

    Args:
        config: How to reach the brokers.
        options: How to send.
        metrics: Counts messages that found the queue full, and replaced producers.
        clock: Monotonic seconds.
        sleep: Pauses between two looks at the producer.
        stall_s: Seconds without an acknowledgement, though there was something to acknowledge, after which the
            producer is replaced.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        options: Mapping[str, Any] = PRODUCER,
        metrics: Metrics | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        stall_s: float = STALL_S,
    ) -> None:
        self._config = {**options, **config}
        self._metrics = metrics or NoMetrics()
        self._clock = clock
        self._sleep = sleep
        self._stall_s = stall_s
        self._well = True
        self._untold = 0
        self.refusals = 0
        """How often messages were refused in a way that trying again does not mend."""
        self._unanswered_since: float | None = None
        self._options = options
        self._renewed = False
        self._producer = Producer(self._config, self._note)

    def renew(self, config: Mapping[str, Any]) -> None:
        """Use this configuration from now on, by a new producer, soon."""
        self._config = {**self._options, **config}
        self._renewed = True

    def publish(self, message: Message, done: Done) -> None:
        """Send a message and call `done` once, also when the message cannot be queued."""
        if self._unanswered_since is None:
            self._unanswered_since = self._clock()
        if self._untold:
            self._fail(done)
            return
        try:
            self._producer.produce(message, done)
        except (BufferError, KafkaException) as error:
            if isinstance(error, BufferError):
                self._metrics.count(Metric.KAFKA_QUEUE_FULL)
            elif error.args[0].code() in REFUSED:
                self.refusals += 1
            self._fail(done)

    def _fail(self, done: Done) -> None:
        """Report soon that a message was not sent; until then send none, as it could be a later one of the same key."""
        self._untold += 1
        asyncio.get_running_loop().call_soon(self._tell, done)

    def _tell(self, done: Done) -> None:
        self._untold -= 1
        done(False)  # noqa: FBT003  # the callback's only argument

    async def send_singly(self, messages: Sequence[Message]) -> list[Delivery]:
        """Send failed messages once more, each alone; nobody else may send messages of their keys meanwhile."""
        return await SingleMessageSender(self._config).send(messages)

    async def warm(self, topic: str, timeout_s: float) -> bool:
        """Prepare to send to a topic without delay; return False when the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                known = await self._producer.knows(topic, timeout_s)
                await self._producer.identified.wait()
        except TimeoutError:
            return False
        return known

    async def keep_alive(self) -> None:
        """Replace the producer when it is stuck or broken, or certificates or passwords are renewed; forever."""
        while True:
            await self._sleep(LOOK_S)
            since = self._unanswered_since
            stalled = since is not None and self._clock() - since > self._stall_s
            if stalled or self._producer.broken:
                await self._replace("stalled" if stalled else "broken")
            elif self._renewed:
                await self._exchange()

    async def close(self, *, flush_s: float) -> int:
        """Wait for acknowledgements until the time is over; return the number of unacknowledged messages."""
        return await self._producer.close(flush_s=flush_s)

    async def _replace(self, reason: str) -> None:
        logger.warning("kafka.producer_replaced", reason=reason)
        self._metrics.count(Metric.KAFKA_REPLACED)
        # What is sent now would overtake what the old one has yet to report as failed.
        await self._producer.retire()
        self._renewed = False
        self._producer = await Producer.make(self._config, self._note)
        self._unanswered_since = None

    async def _exchange(self) -> None:
        """Go on with a new producer; what the old one has is acknowledged first, or is left to the outbox."""
        self._renewed = False
        try:
            fresh = await Producer.make(self._config, self._note)
        except KafkaException as error:
            logger.warning("kafka.not_renewed", error=str(error))
            return
        left = await self._producer.close(flush_s=EXCHANGE_S)
        self._producer = fresh
        self._unanswered_since = None
        logger.info("kafka.renewed", left_in_outbox=left)

    def _note(self, error: KafkaError | None) -> None:
        if error is not None and error.code() in REFUSED:
            self.refusals += 1
        if error is None:
            self._unanswered_since = self._clock() if self._producer.pending else None
        if (error is None) is not self._well:
            self._well = error is None
            if error is None:
                logger.info("kafka.acknowledging")
            else:
                logger.warning("kafka.not_acknowledging", error=error.str())

"""Puts the parts of ingestion together and keeps their background work running."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from bridge.analytics.user_features import Features
from bridge.app.secrets import on_loop
from bridge.background.supervision import background
from bridge.domain.interaction import InteractionListener
from bridge.ingest.feedback_recorder import FeedbackRecorder
from bridge.ingest.recorder import Recorder
from bridge.ingest.transactional_write import ORDER_WAIT_S, TransactionalWriter
from bridge.kafka.consumer import KafkaReader
from bridge.kafka.message import INTERACTIONS_TOPIC, UNRECORDED
from bridge.kafka.producer import PRODUCER
from bridge.kafka.publisher import STALL_S, KafkaPublisher
from bridge.maintenance.backfill import GROUP, Backfill
from bridge.maintenance.backfill_topics import BACKFILL_TOPICS
from bridge.maintenance.event_id_retention import EVENT_ID_DAYS, Retention
from bridge.outbox.outbox import Outbox
from bridge.outbox.relay import Relay
from bridge.postgres.availability import Availability
from bridge.postgres.pool import Database, DatabaseUnavailableError
from servicekit.credentials.renewal import Renewed
from servicekit.telemetry.metrics import Metrics

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaPolicy:
    """Times and bounds of Kafka's clients.

    Attributes:
        client: How to reach the brokers.
        options: How to send.
        stall_s: Seconds without any acknowledgement that end a producer.
        flush_s: Seconds that unsent messages get at the end.
        group: Consumer group that brings interactions to Postgres.
        features_interval_s: Seconds between two publications of users' features.
        renewed: Tells how to reach the brokers from then on; None where that stays as it is.
    """

    client: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=lambda: PRODUCER)
    stall_s: float = STALL_S
    flush_s: float = 5.0
    group: str = GROUP
    features_interval_s: float = 300.0
    renewed: Renewed[dict[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingestion:
    """The parts that take events in; without outbox and publisher, events stay in Postgres only."""

    recorder: Recorder
    writer: TransactionalWriter
    feedback: FeedbackRecorder
    outbox: Outbox | None = None
    relay: Relay | None = None
    publisher: KafkaPublisher | None = None

    async def warm(self, timeout_s: float) -> bool:
        """Prepare for the first interaction; return False when the time is over before."""
        return self.publisher is None or await self.publisher.warm(INTERACTIONS_TOPIC, timeout_s)


@asynccontextmanager
async def open_ingestion(
    database: Database,
    kafka: KafkaPolicy | None,
    metrics: Metrics,
    listeners: Sequence[InteractionListener] = (),
    *,
    order_wait_s: float = ORDER_WAIT_S,
    event_id_days: int = EVENT_ID_DAYS,
) -> AsyncIterator[Ingestion]:
    """Run ingestion until the block ends; the database is the caller's to open and close.

    What is unsent at the end gets some time; what remains is in the outbox, and is counted.
    """
    async with AsyncExitStack() as stack:
        availability = Availability(database, time.monotonic)
        await stack.enter_async_context(background("availability", availability.watch))
        outbox = relay = publisher = None
        if kafka is None:
            logger.warning("kafka.not_configured", consequence="interactions are kept in Postgres only")
        else:
            publisher = KafkaPublisher(kafka.client, options=kafka.options, metrics=metrics, stall_s=kafka.stall_s)
            outbox, relay = await _open_outbox(database, publisher, kafka, metrics, stack)
        writer = TransactionalWriter(database, outbox, availability, time.monotonic, order_wait_s=order_wait_s)
        recorder = Recorder(writer, time.monotonic, listeners=listeners)
        await stack.enter_async_context(background("writer", recorder.write))
        retention = Retention(database, time.monotonic, days=event_id_days, metrics=metrics)
        await stack.enter_async_context(background("retention", retention.run))
        feedback = FeedbackRecorder(writer, time.monotonic)
        yield Ingestion(
            recorder=recorder, writer=writer, feedback=feedback, outbox=outbox, relay=relay, publisher=publisher
        )


async def _open_outbox(
    database: Database, publisher: KafkaPublisher, kafka: KafkaPolicy, metrics: Metrics, stack: AsyncExitStack
) -> tuple[Outbox, Relay]:
    outbox = Outbox(database, publisher, metrics, time.monotonic)
    await stack.enter_async_context(background("outbox", outbox.keep_clean))
    stack.push_async_callback(_flush, publisher, outbox, kafka.flush_s)
    reader = KafkaReader(kafka.client, BACKFILL_TOPICS, group=kafka.group, header=UNRECORDED)
    stack.push_async_callback(reader.close)
    if kafka.renewed:
        kafka.renewed.subscribe(on_loop(publisher.renew))
        kafka.renewed.subscribe(reader.renew)
    await stack.enter_async_context(background("backfill", Backfill(reader, database, publisher, metrics).run))
    relay = Relay(database, outbox, publisher, metrics, time.monotonic)
    await stack.enter_async_context(background("relay", relay.run))
    features = Features(database, publisher, interval_s=kafka.features_interval_s, metrics=metrics)
    await stack.enter_async_context(background("features", features.run))
    await stack.enter_async_context(background("producer", publisher.keep_alive))
    return outbox, relay


async def _flush(publisher: KafkaPublisher, outbox: Outbox, flush_s: float) -> None:
    left = await publisher.close(flush_s=flush_s)
    logger.log(30 if left else 20, "kafka.flushed", left_in_outbox=left)
    with suppress(DatabaseUnavailableError, TimeoutError):  # the relay of the next start finds the rows
        async with asyncio.timeout(flush_s):
            await outbox.clean()

"""Puts the parts of the catalogue together and keeps their background work running."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from bridge.app.ingestion import Ingestion, KafkaPolicy
from bridge.background.supervision import background
from bridge.catalogue.announcing import Announcer
from bridge.catalogue.service import CatalogueService
from bridge.catalogue.storing import VideoStore
from bridge.catalogue.takedowns import Takedowns
from bridge.postgres.pool import Database
from bridge.visibility.hidden import FILE_NAME, Hidden
from bridge.visibility.postgres_follower import PostgresFollower
from bridge.visibility.topic_follower import TopicFollower
from bridge.visibility.topic_reader import TopicReader
from servicekit.telemetry.metrics import Metrics

WARM_UP_S: Final = 3.0
"""Seconds in which Postgres or Kafka gets to say what is hidden, before the first page is served."""
REPORT_S: Final = 10.0

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def open_hidden(snapshot_path: Path, metrics: Metrics) -> AsyncIterator[Hidden]:
    """Return what was hidden when the file beside the trending snapshot was last written; kept until the block ends."""
    hidden = Hidden(snapshot_path.with_name(FILE_NAME), metrics=metrics)
    hidden.restore()

    async def report() -> None:
        while True:
            hidden.report()
            await asyncio.sleep(REPORT_S)

    try:
        async with background("hidden-report", report):
            yield hidden
    finally:
        await hidden.close()


@asynccontextmanager
async def open_catalogue(
    hidden: Hidden, database: Database, ingestion: Ingestion, kafka: KafkaPolicy | None, metrics: Metrics
) -> AsyncIterator[CatalogueService]:
    """Follow what is hidden until the block ends; return the RPCs once a source has told of it all, or none answers."""
    async with AsyncExitStack() as stack:
        postgres = PostgresFollower(hidden, database, metrics=metrics)
        await stack.enter_async_context(background("visibility", postgres.follow))
        await stack.enter_async_context(background("limits", postgres.follow_videos))
        await stack.enter_async_context(background("announcing", Announcer(database, metrics=metrics).run))
        followed = [postgres.followed]
        if kafka is not None and ingestion.publisher is not None:
            reader = TopicReader(kafka.client, hidden.set.offsets)
            stack.push_async_callback(reader.close)
            if kafka.renewed:
                kafka.renewed.subscribe(reader.renew)
            topic = TopicFollower(hidden, reader, ingestion.publisher, lambda: postgres.revision, metrics=metrics)
            await stack.enter_async_context(background("visibility-topic", topic.follow))
            followed.append(topic.followed)
        if not await _any_of(followed, WARM_UP_S):
            logger.warning("hidden.as_of_the_file", videos=len(hidden.set))
        takedowns = Takedowns(ingestion.writer, ingestion.publisher, hidden, time.monotonic)
        yield CatalogueService(VideoStore(ingestion.writer), takedowns, database, metrics)


async def _any_of(events: list[asyncio.Event], timeout_s: float) -> bool:
    """Wait until one of the events has come, and return whether one has."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with suppress(asyncio.CancelledError):
                await wait
    return bool(done)

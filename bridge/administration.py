"""Commands for operators: topics and erasure."""

import asyncio
import sys
import time
from typing import Final

from bridge.database import Database, DatabaseUnavailableError
from bridge.erasure import erase, tombstones_left
from bridge.kafka import KafkaPublisher
from bridge.outbox import Outbox
from bridge.schema import migrate
from bridge.settings import BridgeSettings
from bridge.topics import TopicsError, ensure_topics, topics
from servicekit.telemetry import NoMetrics

DIFFERENT: Final = 1
"""Exit status when something is not as it should be."""
TOMBSTONE_S: Final = 15.0
TOMBSTONE_PAUSE_S: Final = 0.5


def run_topics(settings: BridgeSettings) -> int:
    """Make missing topics, print one line a topic, and return 1 when one differs from what it should be."""
    if not settings.kafka_bootstrap_servers:
        raise ValueError("KAFKA_BOOTSTRAP_SERVERS is not set")
    try:
        reports = ensure_topics(settings.kafka_client(), topics(settings.kafka_replication))
    except TopicsError as error:
        raise RuntimeError(f"Kafka: {error}") from None
    for report in reports:
        state = "created" if report.created else "; ".join(report.differences) or "as it should be"
        sys.stdout.write(f"{report.name:28} {state}\n")
    return DIFFERENT if any(report.differences for report in reports) else 0


def run_erase(settings: BridgeSettings, user_id: str) -> int:
    """Forget a viewer, print what was deleted, and return 1 when Kafka does not have the tombstones yet."""
    migrate(settings.database_url)
    return asyncio.run(_erase(settings, user_id))


async def _erase(settings: BridgeSettings, user_id: str) -> int:
    database = Database(settings.database_url, connections=4)
    await database.open()
    database.ready.set()
    try:
        async with database.connection(timeout_s=10) as connection:
            deleted = await erase(connection, user_id)
        for table, rows in deleted.items():
            sys.stdout.write(f"{table:28} {rows} rows deleted\n")
        left = await _send_tombstones(settings, database, user_id)
    except DatabaseUnavailableError as error:
        raise RuntimeError(f"Postgres: {error}") from None
    finally:
        await database.close()
    sys.stdout.write(f"{'tombstones':28} {f'{left} wait in the outbox' if left else 'sent'}\n")
    return DIFFERENT if left else 0


async def _send_tombstones(settings: BridgeSettings, database: Database, user_id: str) -> int:
    """Relay until the viewer's tombstones are in Kafka, or time is over; return how many are not."""
    publisher = None
    if settings.kafka_bootstrap_servers:
        publisher = KafkaPublisher(settings.kafka_client())
    outbox = Outbox(database, publisher, NoMetrics(), time.monotonic) if publisher else None
    deadline = time.monotonic() + TOMBSTONE_S
    while True:
        async with database.connection() as connection:
            left = await tombstones_left(connection, user_id)
        if not left or outbox is None or time.monotonic() > deadline:
            break
        await asyncio.sleep(TOMBSTONE_PAUSE_S)
        await outbox.relay_batch()
    if publisher:
        await publisher.close(flush_s=1)
    return left

"""Commands for operators: topics, erasure and dead letters."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from bridge.kafka.message import DEAD_LETTER_TOPIC
from bridge.kafka.publisher import KafkaPublisher
from bridge.kafka.replay import DeadLetterTopic, Letter, ReplayError
from bridge.kafka.topics import USER_TOPICS, TopicsError, ensure_topics, topics
from bridge.maintenance.erasure import Found, erase, find, tombstones_left
from bridge.outbox.outbox import Outbox
from bridge.outbox.rejected_messages import MAX_SHOWN, count_dead, put_back, show_dead
from bridge.outbox.relay import Relay
from bridge.postgres.migrate import migrate, require_schema
from bridge.postgres.pool import Database, DatabaseUnavailableError
from bridge.settings import BridgeSettings
from servicekit.inputs.identifiers import identifier_problem
from servicekit.telemetry.metrics import NoMetrics

DIFFERENT: Final = 1
"""The command did its work, and something is not as it should be: a topic differs, there are dead letters, the user
is not known, or tombstones wait."""
TOMBSTONE_S: Final = 15.0
TOMBSTONE_PAUSE_S: Final = 0.5


def run_topics(settings: BridgeSettings) -> int:
    """Create missing topics, print one line a topic, and return 1 when one differs from its specification."""
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


def run_migrate(settings: BridgeSettings) -> int:
    """Bring the schema up to date, or report that it is newer than this program, with its faults; return 0."""
    schema = migrate(settings.database_url)
    sys.stdout.write(f"Database schema: {schema}\n")
    sys.stdout.writelines(f"  {note}\n" for note in schema.notes)
    return 0


def run_dead_letters(settings: BridgeSettings, *, replay: bool) -> int:
    """Print the dead letters, or replay them; return 1 when any were printed."""
    migrate(settings.database_url)
    try:
        return asyncio.run(_replay(settings) if replay else _show(settings))
    except ReplayError as error:
        raise RuntimeError(f"Kafka: {error}") from None


async def _show(settings: BridgeSettings) -> int:
    async with _connected(settings) as database, database.connection(timeout_s=10) as connection:
        refused, count = await show_dead(connection), await count_dead(connection)
    sys.stdout.write(f"{count} messages that Kafka refused, in Postgres\n")
    for one in refused:
        sys.stdout.write(f"  {one.refused_at:%Y-%m-%dT%H:%M:%SZ} {one.event_id} {one.topic} {one.key}: {one.reason}\n")
    letters = 0
    if settings.kafka_bootstrap_servers:
        shown, letters = await DeadLetterTopic(settings.kafka_client()).show(MAX_SHOWN)
        sys.stdout.write(f"{letters} messages that could not be processed, in {DEAD_LETTER_TOPIC}\n")
        sys.stdout.writelines(f"  {_line(letter)}\n" for letter in shown)
    return DIFFERENT if count or letters else 0


def _line(letter: Letter) -> str:
    reason = " ".join(letter.context.get("exception.message", "?").split())
    return f"{letter.place}: {letter.context.get('exception.class.name', '?')}: {reason}"


async def _replay(settings: BridgeSettings) -> int:
    async with _connected(settings) as database, database.connection(timeout_s=10) as connection:
        refused = await put_back(connection)
    sys.stdout.write(f"{refused} messages are in the outbox again\n")
    if settings.kafka_bootstrap_servers:
        replayed = await DeadLetterTopic(settings.kafka_client()).replay()
        sys.stdout.write(f"{replayed.sent} messages are in their topics again\n")
        for place, reason in replayed.refused.items():
            sys.stdout.write(f"  {place} is a dead letter once more: {reason}\n")
        return DIFFERENT if replayed.refused else 0
    return 0


@asynccontextmanager
async def _connected(settings: BridgeSettings) -> AsyncIterator[Database]:
    database = Database(settings.database_url, connections=4)
    await database.open()
    database.ready.set()
    try:
        yield database
    except DatabaseUnavailableError as error:
        raise RuntimeError(f"Postgres: {error}") from None
    finally:
        await database.close()


def run_erase(settings: BridgeSettings, user_id: str, *, dry_run: bool = False, force: bool = False) -> int:
    """Erase a user, and print the number of deleted rows.

    Args:
        settings: Of the bridge.
        user_id: The user.
        dry_run: Print what would be deleted, and delete nothing.
        force: Go on where nothing is known of the user, whose messages Kafka may have all the same.

    Returns:
        1 when nothing is known of the user, or when Kafka does not have the tombstones yet.
    """
    if problem := identifier_problem(user_id):
        raise ValueError(f"--user: {problem}")
    if dry_run:
        require_schema(settings.database_url)
    else:
        migrate(settings.database_url)
    return asyncio.run(_erase(settings, user_id, dry_run=dry_run, force=force))


async def _erase(settings: BridgeSettings, user_id: str, *, dry_run: bool, force: bool) -> int:
    async with _connected(settings) as database:
        async with database.connection(timeout_s=10) as connection:
            found = await find(connection, user_id)
            going = (found.known or force) and not dry_run
            deleted = await erase(connection, user_id) if going else found.rows
        if not found.known:
            sys.stdout.write(f"user {user_id!r} was not found: no table has rows of this user\n")
            if not force:
                sys.stdout.write("nothing was done; --force sends tombstones to Kafka all the same\n")
                return DIFFERENT
        sys.stdout.writelines(f"{line}\n" for line in _report(found, deleted, dry_run=dry_run))
        if dry_run:
            return 0
        left = await _send_tombstones(settings, database, user_id)
    sys.stdout.write(f"{'tombstones':28} {f'{left} wait in the outbox' if left else 'sent'}\n")
    return DIFFERENT if left else 0


def _report(found: Found, deleted: Mapping[str, int], *, dry_run: bool) -> Iterator[str]:
    if found.erased_at is not None:
        yield f"{'erased before':28} {found.erased_at:%Y-%m-%dT%H:%M:%SZ}"
    for table, rows in deleted.items():
        yield f"{table:28} {rows} rows {'would be ' if dry_run else ''}deleted"
    if dry_run:
        yield f"{'tombstones':28} {len(USER_TOPICS)} would be sent"
    if found.days:
        first, last, rows = min(found.days), max(found.days), sum(found.days.values())
        yield (f"{'exports':28} {len(found.days)} days from {first} to {last} may still hold {rows} rows")
        yield f"{'':28} the nightly run leaves them out; `python -m retrain forget` rewrites the exports without them"


def _relay(database: Database, publisher: KafkaPublisher) -> Relay:
    outbox = Outbox(database, publisher, NoMetrics(), time.monotonic)
    return Relay(database, outbox, publisher, NoMetrics(), time.monotonic)


async def _send_tombstones(settings: BridgeSettings, database: Database, user_id: str) -> int:
    """Relay until the user's tombstones are in Kafka, or the time is over; return the number of missing ones."""
    publisher = None
    if settings.kafka_bootstrap_servers:
        publisher = KafkaPublisher(settings.kafka_client())
    relay = _relay(database, publisher) if publisher else None
    deadline = time.monotonic() + TOMBSTONE_S
    while True:
        async with database.connection() as connection:
            left = await tombstones_left(connection, user_id)
        if not left or relay is None or time.monotonic() > deadline:
            break
        await asyncio.sleep(TOMBSTONE_PAUSE_S)
        await relay.relay_batch()
    if publisher:
        await publisher.close(flush_s=1)
    return left

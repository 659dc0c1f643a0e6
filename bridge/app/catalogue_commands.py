"""Commands for the catalogue: a file of videos in, or out."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg

from bridge.catalogue import videos_table
from bridge.catalogue.files import BATCH, read_rows, writing
from bridge.catalogue.rows import read_row, to_row
from bridge.catalogue.storing import Given, VideoStore
from bridge.catalogue.videos_table import Shown
from bridge.kafka.message import Message
from bridge.postgres.migrate import migrate
from bridge.postgres.pool import Connection, Database, DatabaseUnavailableError
from bridge.settings import BridgeSettings
from servicekit.grpc.errors import ServiceError

T = TypeVar("T")

DIFFERENT: Final = 1
"""Exit status when rows were set aside."""
PROGRESS_S: Final = 2.0
MAX_NAMED: Final = 20
MAX_REASON: Final = 300
CONNECT_S: Final = 10.0


@dataclass(slots=True)
class Tally:
    """Counts rows by their outcome."""

    read: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    odd: int = 0
    named: list[str] = field(default_factory=list)
    told_at: float = field(default_factory=time.monotonic)

    def set_aside(self, name: str, problem: object) -> None:
        """Count a row that cannot be used, and name the first ones."""
        self.odd += 1
        if len(self.named) < MAX_NAMED:
            self.named.append(f"{name}: {str(problem)[:MAX_REASON]}")

    def tell(self) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self.told_at > PROGRESS_S:
            self.told_at = time.monotonic()
            sys.stderr.write(f"{self.read:,} rows, {self.odd:,} refused\n")


class _DirectWriter:
    """Writes as the server's writer does, without Kafka in the place of a Postgres that is away."""

    def __init__(self, database: Database, *, dry_run: bool) -> None:
        self._database = database
        self._dry_run = dry_run

    async def write(
        self, work: Callable[[Connection], Awaitable[tuple[T, Sequence[Message]]]], *, timeout_s: float
    ) -> T:
        async with (
            asyncio.timeout(timeout_s),
            self._database.connection(timeout_s=CONNECT_S) as connection,
            connection.transaction(force_rollback=self._dry_run),
        ):
            result, _ = await work(connection)
        return result


def run_import(settings: BridgeSettings, path: Path, *, dry_run: bool, new_embeddings: bool) -> int:
    """Store the videos of a file and print the counts of outcomes; return 1 when rows were refused.

    Args:
        settings: Of the bridge.
        path: Parquet or JSON lines.
        dry_run: Change nothing, and print what would become of them.
        new_embeddings: Forget the embeddings of all videos first, as those of the file have another length.
    """
    migrate(settings.database_url)
    return asyncio.run(_import(settings, path, dry_run=dry_run, new_embeddings=new_embeddings))


async def _import(settings: BridgeSettings, path: Path, *, dry_run: bool, new_embeddings: bool) -> int:
    tally = Tally()
    database = await _connected(settings)
    try:
        if new_embeddings and not dry_run:
            async with database.connection(timeout_s=CONNECT_S) as connection:
                forgotten = await videos_table.forget_embeddings(connection)
            sys.stdout.write(f"{'embeddings forgotten':28} {forgotten:,}\n")
        store = VideoStore(_DirectWriter(database, dry_run=dry_run))
        source = read_rows(path)
        while rows := [*islice(source, BATCH)]:
            await _store(store, rows, tally)
            tally.tell()
    except (DatabaseUnavailableError, TimeoutError) as error:
        raise RuntimeError(f"Postgres: {error}; {tally.read:,} rows were dealt with: run it again") from None
    finally:
        await database.close()
    _print(tally, dry_run=dry_run)
    return DIFFERENT if tally.odd else 0


async def _store(store: VideoStore, rows: Sequence[tuple[str, Any]], tally: Tally) -> None:
    given = []
    for name, row in rows:
        tally.read += 1
        try:
            if isinstance(row, ValueError):
                raise row
            given.append(Given(name, read_row(row)))
        except ValueError as error:
            tally.set_aside(name, error)
    for one, outcome in zip(given, await store.store(given, timeout_s=60.0), strict=True):
        if isinstance(outcome, ServiceError):
            tally.set_aside(repr(one.video.video_id), outcome)
        else:
            tally.changes[outcome.change.name.lower()] += 1


def _print(tally: Tally, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    sys.stdout.write(f"{'rows':28} {tally.read:,}\n")
    for change in ("created", "updated", "unchanged"):
        sys.stdout.write(f"{would + change:28} {tally.changes[change]:,}\n")
    sys.stdout.write(f"{'refused':28} {tally.odd:,}\n")
    sys.stdout.writelines(f"  {line}\n" for line in tally.named)


def run_export(settings: BridgeSettings, path: Path) -> int:
    """Write all videos to a file, and print how many; return 0."""
    migrate(settings.database_url)
    return asyncio.run(_export(settings, path))


async def _export(settings: BridgeSettings, path: Path) -> int:
    database = await _connected(settings)
    count, after = 0, ""
    try:
        with writing(path) as writer:
            while True:
                async with database.connection(timeout_s=CONNECT_S) as connection:
                    ids = await videos_table.list_ids(connection, Shown.ALL, author_id="", after=after, most=BATCH)
                    writer.write([to_row(one) for one in await videos_table.read(connection, ids)])
                if not ids:
                    break
                count, after = count + len(ids), ids[-1]
    except (DatabaseUnavailableError, psycopg.errors.QueryCanceled) as error:
        raise RuntimeError(f"Postgres: {error}") from None
    finally:
        await database.close()
    sys.stdout.write(f"{count:,} videos are in {path}\n")
    return 0


async def _connected(settings: BridgeSettings) -> Database:
    database = Database(settings.database_url, connections=4)
    await database.open()
    database.ready.set()
    return database

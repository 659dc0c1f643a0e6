"""The command of operators that counts trending anew."""

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from bridge.app.feed import counting_policy, trending_policy
from bridge.postgres.migrate import migrate
from bridge.postgres.pool import Database, DatabaseUnavailableError, ForbiddenError
from bridge.settings import BridgeSettings
from bridge.trending.progress import reset, state
from bridge.trending.query import compute_trending
from bridge.trending.roller import Roller

TELL_S: Final = 5.0
FIRST: Final = 100
"""Videos of the rankings before and after that are compared."""


def run_recompute(settings: BridgeSettings, *, dry_run: bool = False) -> int:
    """Count trending anew from the stored interactions, telling how far; or only say what would be read. Returns 0."""
    migrate(settings.database_url)
    asyncio.run(_recompute(settings, dry_run=dry_run))
    return 0


async def _recompute(settings: BridgeSettings, *, dry_run: bool) -> None:
    database = Database(settings.database_url, connections=4)
    await database.open()
    database.ready.set()
    try:
        await _show_state(database)
        if dry_run:
            sys.stdout.write("nothing was changed\n")
            return
        before = await _first(settings, database)
        try:
            async with database.connection(timeout_s=10) as connection:
                await reset(connection)
        except ForbiddenError as error:
            raise RuntimeError(f"{error}: run this command as the owner of the tables") from None
        rows = await _count(Roller(database, counting_policy(settings)), database, time.monotonic)
        after = await _first(settings, database)
        sys.stdout.write(f"{rows} interactions were read here; bridges that run read others\n")
        same = len({*before} & {*after})
        sys.stdout.write(f"{same} of the first {len(after)} videos were among the first {len(before)} before\n")
    except DatabaseUnavailableError as error:
        raise RuntimeError(f"Postgres: {error}") from None
    finally:
        await database.close()


async def _show_state(database: Database) -> None:
    async with database.connection(timeout_s=10) as connection:
        now = await state(connection)
    sys.stdout.writelines(f"{name:28} {value}\n" for name, value in now.items())


async def _first(settings: BridgeSettings, database: Database) -> list[str]:
    trending = await compute_trending(database, trending_policy(settings), datetime.now(UTC))
    return [video.ranked.video_id for video in trending.videos[:FIRST]]


async def _count(roller: Roller, database: Database, clock: Callable[[], float]) -> int:
    """Count until nothing is left, whoever does; return at how many rows this program looked."""
    rows, told = 0, clock()
    while True:
        step = await roller.step()
        rows += step.rows
        if step.outdated:
            raise RuntimeError("a newer program counts: run this command with that one")
        if step.led and not step.more:
            return rows
        if clock() - told > TELL_S:
            told = clock()
            sys.stdout.write(f"{rows} interactions read\n")
            sys.stdout.flush()
            await _show_state(database)
        await asyncio.sleep(0 if step.led else 0.05)

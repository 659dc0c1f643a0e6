"""A refresh of trending with 10 and with 100 million interactions in the window, of the same catalogue, in turns.

What so many interactions leave behind is made by set: buckets of each hour, video, type and surface, from which the
bridge's own code makes the scores. Marks of users are not made, as no refresh reads them.
"""

import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from benchmarks import knob
from benchmarks.report import Row
from bridge.postgres.migrate import migrate
from bridge.postgres.pool import Database
from bridge.trending.query import TrendingPolicy, compute_trending
from bridge.trending.roller import CountingPolicy, Roller
from deploy.local.postgres import Postgres

INTERACTIONS: Final = knob.wholes("REFRESH_INTERACTIONS", (10**7, 10**8))
VIDEOS: Final = 20_000
WINDOW_H: Final = 168
ROUNDS: Final = 15
CONNECT_S: Final = 60.0

_CATALOGUE: Final = """
INSERT INTO videos (video_id, author_id, tags, duration_ms, published_at)
SELECT 'video-' || n, 'author-' || n %% 2000, ARRAY['t' || n %% 40, 't' || n %% 97, 'rare' || n %% 1500], 20000, now()
FROM generate_series(1, %(videos)s::integer) AS n
"""
# Popularity falls with the place, as on real feeds; a bucket with fewer than one interaction is there by chance.
_BUCKETS: Final = """
WITH places AS MATERIALIZED (
    SELECT 'video-' || n AS video_id, power(n, -0.8) / sum(power(n, -0.8)) OVER () AS of_video
    FROM generate_series(1, %(videos)s::integer) AS n
), made AS (
    SELECT %(newest)s - ago AS hour, video_id, kind, surface,
        floor(%(interactions)s::float8 / %(hours)s * of_kind * of_video + random())::bigint AS deeds
    FROM generate_series(%(first)s::integer, %(last)s::integer) AS ago, places,
        (VALUES ('impression', 'home', 0.5), ('watch', 'home', 0.35), ('complete', 'explore', 0.1),
            ('like', 'explore', 0.05)) AS kinds (kind, surface, of_kind)
)
INSERT INTO trending_hours (hour, video_id, interaction_type, surface, country, language, deeds, amount)
SELECT hour, video_id, kind, surface, '', '', deeds, deeds * 1000000 FROM made WHERE deeds > 0
"""


def run() -> dict[str, list[Row]]:
    """Return the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # Postgres may run as somebody else
        postgres = Postgres(folder / "postgres", durable=False)
        stack.callback(postgres.stop)
        postgres.start()
        urls = {number: postgres.create_database(f"trending_{number}") for number in INTERACTIONS}
        for number, url in urls.items():
            _fill(url, number)
        return asyncio.run(_measure(urls))


def _fill(url: str, interactions: int) -> None:
    migrate(url)
    newest = int(time.time() // 3600)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_CATALOGUE, {"videos": VIDEOS})
        for first in range(0, WINDOW_H, 12):
            values = {"newest": newest, "videos": VIDEOS, "interactions": interactions, "hours": WINDOW_H}
            connection.execute(_BUCKETS, values | {"first": first, "last": first + 11})
        connection.execute("UPDATE trending_progress SET newest_hour = %s", [newest])


async def _measure(urls: dict[int, str]) -> dict[str, list[Row]]:
    async with AsyncExitStack() as stack:
        databases = {}
        for number, url in urls.items():
            databases[number] = Database(url)
            stack.push_async_callback(databases[number].close)  # else a failure would end in a wait for its tasks
            await databases[number].open()
            databases[number].ready.set()
            async with databases[number].connection(timeout_s=CONNECT_S):
                pass
        return await _compare(databases)


async def _compare(databases: dict[int, Database]) -> dict[str, list[Row]]:
    counting = CountingPolicy(window_h=WINDOW_H, half_life_s=86_400, enough=500)
    made: dict[int, float] = {}
    for number, database in databases.items():
        begin = time.monotonic()
        await Roller(database, counting).catch_up()
        made[number] = time.monotonic() - begin
        async with database.statements() as connection:
            await connection.execute("VACUUM ANALYZE trending_scores, videos")
    took: dict[int, list[float]] = {number: [] for number in databases}
    videos = {}
    for _ in range(ROUNDS):
        for number, database in databases.items():
            begin = time.monotonic()
            trending = await compute_trending(database, TrendingPolicy(), datetime.now(UTC))
            took[number].append(time.monotonic() - begin)
            videos[number] = len(trending.videos)
    rows: list[Row] = []
    for number, database in databases.items():
        async with database.connection() as connection:
            counted = await (
                await connection.execute("SELECT count(*), sum(deeds)::bigint FROM trending_hours")
            ).fetchone() or (0, 0)
        rows.append(
            {
                "interactions": counted[1],
                "buckets": counted[0],
                "ranked": videos[number],
                "refresh, median ms": round(1000 * statistics.median(took[number]), 1),
                "scores made anew, s": round(made[number], 1),
            }
        )
    small, large = (took[number] for number in databases)
    ratios = sorted(after / before for before, after in zip(small, large, strict=True))
    ratio: Row = {
        "median ratio": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        "bound": 1.5,
    }
    return {"A refresh": rows, "Cost by ten times the interactions": [ratio]}

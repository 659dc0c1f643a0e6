"""Interactions stored as they are, and what trends by them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import sql

from bridge.background.job import SetAside
from bridge.postgres.pool import Database
from bridge.trending.progress import reset
from bridge.trending.query import TrendingPolicy, compute_trending
from bridge.trending.ranking import Trending
from bridge.trending.roller import CountingPolicy, Roller

THEN: Final = datetime(2022, 4, 30, tzinfo=UTC)
"""Long ago, as imported history is."""
COUNTING: Final = CountingPolicy(window_h=10, half_life_s=3600, enough=500)
POLICY: Final = TrendingPolicy(unknown_videos=True)
COUNTS: Final = """
SELECT hour, video_id, interaction_type, surface, country, language, deeds, amount FROM trending_hours
ORDER BY hour, video_id, interaction_type, surface, country, language
"""
EMPTY: Final = """
DELETE FROM user_interactions; DELETE FROM videos; DELETE FROM feed_cache; DELETE FROM trending_hours;
DELETE FROM trending_marks; DELETE FROM trending_scores;
UPDATE trending_progress SET floor_hour = -2147483648, newest_hour = -2147483648, half_life_s = 0, window_h = 0,
    formula = 0, older_at = NULL, scores_hour = NULL, restored_at = '-infinity'
"""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A ranking and the rollers behind it."""

    database: Database
    counting: CountingPolicy = COUNTING
    policy: TrendingPolicy = POLICY
    set_aside: SetAside = field(default_factory=lambda: SetAside("trending"))

    async def trending(self) -> Trending:
        """Count all, and rank."""
        await Roller(self.database, self.counting).catch_up()
        return await compute_trending(self.database, self.policy, THEN, self.set_aside)

    async def scores(self) -> dict[str, float]:
        """Return the scores of the ranking."""
        return {video.ranked.video_id: round(video.ranked.score, 6) for video in (await self.trending()).videos}

    async def ids(self) -> list[str]:
        """Return the videos of the ranking."""
        return [video.ranked.video_id for video in (await self.trending()).videos]


async def add(
    database: Database, user: str, video: str, kind: str, *, hours: float = 0, watch_ms: int = 0, rating: float = 0
) -> None:
    """Store an interaction of so many hours before THEN."""
    row = {"user_id": user, "video_id": video, "interaction_type": kind, "watch_time_ms": watch_ms, "rating": rating}
    await store(database, row | {"occurred_at": THEN - timedelta(hours=hours)})


async def store(database: Database, *rows: dict[str, Any]) -> None:
    """Store rows as they are, whatever checks the API would have made."""
    async with database.connection() as connection:
        for row in rows:
            names = {"user_id": "u1", "video_id": "v1", "interaction_type": "like", "occurred_at": datetime.now(UTC)}
            columns = names | row
            await connection.execute(
                sql.SQL("INSERT INTO user_interactions ({}) VALUES ({})").format(
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.SQL(", ").join(sql.Placeholder() * len(columns)),
                ),
                [*columns.values()],
            )


async def fill(database: Database, videos: int) -> None:
    """Store a live feed: one like for each video, a second apart, up to now."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " SELECT 'u1', 'v' || n, 'like', now() - n * interval '1 second' FROM generate_series(1, %s) n",
            [videos],
        )


async def empty(database: Database) -> None:
    """Forget all interactions and counts."""
    async with database.connection() as connection:
        await connection.execute(EMPTY)


async def counts(database: Database) -> list[tuple[Any, ...]]:
    """Return all counts."""
    async with database.connection() as connection:
        return await (await connection.execute(COUNTS)).fetchall()


async def strengths(database: Database) -> dict[tuple[str, str], float]:
    """Return the strength of each video on each surface."""
    query = "SELECT surface, video_id, strength FROM trending_scores WHERE strength IS NOT NULL"
    async with database.connection() as connection:
        return {(row[0], row[1]): row[2] for row in await (await connection.execute(query)).fetchall()}


async def count_anew(database: Database, counting: CountingPolicy = COUNTING, *, batch: int = 20_000) -> None:
    """Forget all counts, and make them again."""
    async with database.connection() as connection:
        await reset(connection)
    await Roller(database, counting, batch=batch).catch_up()

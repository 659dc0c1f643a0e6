"""Computes the trending ranking in Postgres."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from bridge.database import Connection, Database
from bridge.page import RankedVideo
from bridge.trending import Trending, TrendingVideo

FETCH_ROWS: Final = 500
"""Rows decoded at a time: the event loop must not be held for long."""

# Time decay is relative to the newest event, so that a quiet night or imported history still gives a ranking. Each
# viewer counts once for a video, by the strongest thing done to it: nobody can push a video alone.
_DEEDS: Final = """
WITH weights (interaction_type, weight) AS (
    VALUES ('impression', 0.05), ('watch', 1.0), ('complete', 2.0), ('like', 3.0), ('follow', 2.0), ('comment', 3.0),
           ('share', 4.0), ('favorite', 3.0), ('rating', 3.0), ('search', 1.0), ('skip', -0.5), ('hide', -2.0)
), newest AS (
    SELECT max(occurred_at) AS instant FROM user_interactions
), deeds AS (
    SELECT video_id, user_id, feed_session_id, weight, newest.instant - occurred_at AS age,
           CASE interaction_type
               WHEN 'watch' THEN least(1, watch_time_ms / coalesce(nullif(duration_ms, 0), %(full_watch_ms)s)::float8)
               WHEN 'rating' THEN coalesce(rating, 0) / 5
               ELSE 1
           END AS share
    FROM newest, user_interactions JOIN weights USING (interaction_type) LEFT JOIN videos USING (video_id)
    WHERE occurred_at > newest.instant - make_interval(secs => %(window_s)s)
)
"""
_WEIGHT: Final = """
(greatest(0, max(weight * share)) + least(0, min(weight)))
* exp(-ln(2.0) * min(extract(epoch FROM age))::float8 / %(half_life_s)s)
"""

_RANKING: Final = f"""
{_DEEDS}, viewers AS (
    SELECT video_id, user_id, {_WEIGHT} AS weight FROM deeds GROUP BY video_id, user_id
), scored AS (
    SELECT video_id, sum(weight) AS score FROM viewers GROUP BY video_id HAVING sum(weight) > 0
), tagged AS (
    SELECT video_id, row_number() OVER (PARTITION BY tag ORDER BY score DESC, video_id) AS place
    FROM scored JOIN videos USING (video_id), unnest(tags) AS tag
), chosen AS (
    (SELECT video_id FROM scored ORDER BY score DESC, video_id LIMIT %(most)s)
    UNION
    (SELECT video_id FROM tagged WHERE place <= %(most_of_tag)s GROUP BY video_id
     ORDER BY min(place), video_id LIMIT %(most)s)
), ranked AS (
    SELECT video_id, score FROM scored JOIN chosen USING (video_id)
)
SELECT video_id, score, coalesce(author_id, ''), coalesce(tags, '{{}}'), duration_ms,
       (extract(epoch FROM published_at) * 1000000)::bigint
FROM ranked LEFT JOIN videos USING (video_id) ORDER BY score DESC, video_id
"""  # noqa: S608  # its parts are constants

# The surface of a deed is that of the page that led to it.
_SURFACES: Final = f"""
{_DEEDS}, sessions AS (
    SELECT DISTINCT ON (feed_session_id) feed_session_id, surface FROM feed_cache
    WHERE page = 1 AND surface <> '' AND feed_session_id IN (SELECT feed_session_id FROM deeds)
), viewers AS (
    SELECT surface, video_id, user_id, {_WEIGHT} AS weight
    FROM deeds JOIN sessions USING (feed_session_id) GROUP BY surface, video_id, user_id
), scored AS (
    SELECT surface, video_id, sum(weight) AS score,
           row_number() OVER (PARTITION BY surface ORDER BY sum(weight) DESC, video_id) AS place
    FROM viewers GROUP BY surface, video_id HAVING sum(weight) > 0
)
SELECT surface, video_id, score FROM scored WHERE place <= %(most_of_surface)s AND surface IN (
    SELECT surface FROM scored GROUP BY surface ORDER BY sum(score) DESC, surface LIMIT %(surfaces)s
)
"""  # noqa: S608  # its parts are constants


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendingPolicy:
    """How the ranking is computed."""

    half_life_s: float = 24 * 3600.0
    """Age at which an interaction counts half."""
    window_s: float = 7 * 24 * 3600.0
    """Age, relative to the newest interaction, from which on one does not count."""
    full_watch_ms: int = 30_000
    """Watch time that counts as a whole watch where the video's length is unknown."""
    most: int = 5000
    """Videos in the ranking, and as many again that are the best of some tag."""
    most_of_tag: int = 200
    """Videos of each tag, so that pages of a rare tag are full, too."""
    surfaces: int = 8
    """Surfaces with a ranking of their own, those with most interactions."""
    most_of_surface: int = 1000
    """Videos that are ranked higher on a surface for what was done there."""


async def compute_trending(database: Database, policy: TrendingPolicy, now: datetime) -> Trending:
    """Rank in Postgres; DatabaseUnavailableError when it is away."""
    surfaces: dict[str, dict[str, float]] = {}
    async with database.connection() as connection:
        videos = [_video(row) async for row in _rows(connection, _RANKING, policy)]
        async for surface, video_id, score in _rows(connection, _SURFACES, policy):
            surfaces.setdefault(surface, {})[video_id] = score
    return await asyncio.to_thread(Trending, now, videos, surfaces)  # sorts thousands


async def _rows(connection: Connection, query: str, policy: TrendingPolicy) -> AsyncIterator[tuple[Any, ...]]:
    async with connection.cursor() as cursor:
        await cursor.execute(query, asdict(policy))
        while rows := await cursor.fetchmany(FETCH_ROWS):
            for row in rows:
                yield row
            await asyncio.sleep(0)  # decoded all at once, thousands would hold up calls


def _video(row: tuple[Any, ...]) -> TrendingVideo:
    video_id, score, author_id, tags, duration_ms, published_at_us = row
    return TrendingVideo(
        ranked=RankedVideo(video_id, score),
        author_id=author_id,
        tags=tuple(tags),
        duration_ms=duration_ms,
        published_at_us=published_at_us,
    )

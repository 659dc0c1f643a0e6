"""Computes the trending ranking in Postgres."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from bridge.background.job import SetAside
from bridge.domain.page import RankedVideo
from bridge.postgres.pool import Connection, Database
from bridge.trending.ranking import Trending, TrendingVideo
from servicekit.inputs.identifiers import MAX_ID_BYTES, identifier_problem

FETCH_ROWS: Final = 500
"""Rows decoded at a time: the event loop must not be held for long."""
MAX_TAGS: Final = 200
"""Tags of a video, which has fewer than ten as a rule; one with more is set aside."""
MAX_TAG_BYTES: Final = 8192
"""Bytes of all tags of a video."""
MAX_FADED: Final = 900
"""Half-lives after which a score fades no more, so that no double underflows."""

# All of a ranking is in memory: no row may be large.
_FEW_TAGS: Final = f"""
cardinality(tags) <= {MAX_TAGS} AND octet_length(array_to_string(tags, '')) <= {MAX_TAG_BYTES}
"""

# In the order of their strengths, which the index has; the scores are as of the newest hour in which anything counted.
_PARTS: Final = """
WITH progress AS (
    SELECT newest_hour, greatest(half_life_s, 1e-9) / 3600 AS half_life_h FROM trending_progress
), there AS (
    SELECT %(unknown_videos)s OR NOT EXISTS (SELECT FROM videos) AS all_videos
)
"""
_SCORE: Final = f"""
total * power(2::float8, -least({MAX_FADED}, greatest(0, newest_hour - hour) / half_life_h))
"""
_WHOLE: Final = "surface = '' AND country = '' AND language = '' AND strength IS NOT NULL"
_RANKING: Final = f"""
{_PARTS}, best AS (
    SELECT video_id FROM trending_scores LEFT JOIN videos USING (video_id)
    WHERE {_WHOLE} AND (videos.video_id IS NOT NULL OR (SELECT all_videos FROM there))
    ORDER BY strength DESC, video_id LIMIT %(most)s
), tagged AS (
    SELECT video_id, row_number() OVER (PARTITION BY tag ORDER BY strength DESC, video_id) AS place
    FROM trending_scores JOIN videos USING (video_id), unnest(tags) AS tag
    WHERE {_WHOLE} AND {_FEW_TAGS}
), chosen AS (
    (SELECT video_id FROM best)
    UNION
    (SELECT video_id FROM tagged WHERE place <= %(most_of_tag)s GROUP BY video_id
     ORDER BY min(place), video_id LIMIT %(most)s)
), ranked AS (
    SELECT video_id, {_SCORE} AS score FROM trending_scores JOIN chosen USING (video_id), progress WHERE {_WHOLE}
)
SELECT left(video_id, {MAX_ID_BYTES + 1}), score, left(coalesce(author_id, ''), {MAX_ID_BYTES + 1}),
       CASE WHEN videos.video_id IS NULL THEN '{{}}' WHEN {_FEW_TAGS} THEN tags END, duration_ms,
       CASE WHEN published_at BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 00:00Z'
           THEN (extract(epoch FROM published_at) * 1000000)::bigint END
FROM ranked LEFT JOIN videos USING (video_id) ORDER BY score DESC, video_id
"""  # noqa: S608  # its parts are constants

# Surfaces are those with most points: by their names, whoever makes some up could put them before all others.
_SURFACES: Final = f"""
{_PARTS}, surfaces AS (
    SELECT surface FROM trending_scores LEFT JOIN videos USING (video_id), progress
    WHERE surface <> '' AND country = '' AND language = '' AND strength IS NOT NULL
        AND (videos.video_id IS NOT NULL OR (SELECT all_videos FROM there))
    GROUP BY surface ORDER BY sum({_SCORE}) DESC, surface LIMIT %(surfaces)s
)
SELECT surfaces.surface, left(video_id, {MAX_ID_BYTES + 1}), {_SCORE} FROM surfaces, progress, LATERAL (
    SELECT video_id, total, hour FROM trending_scores AS own LEFT JOIN videos USING (video_id)
    WHERE own.surface = surfaces.surface AND country = '' AND language = '' AND strength IS NOT NULL
        AND (videos.video_id IS NOT NULL OR (SELECT all_videos FROM there))
    ORDER BY strength DESC, video_id LIMIT %(most_of_surface)s
) AS best
"""  # noqa: S608  # its parts are constants
_COMPLETE: Final = "SELECT complete FROM trending_progress"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendingPolicy:
    """How the ranking is computed."""

    unknown_videos: bool = False
    """Whether videos that the catalogue lacks are ranked, too, where there is a catalogue."""
    most: int = 5000
    """Videos in the ranking, and as many again that are the best of some tag."""
    most_of_tag: int = 200
    """Videos of each tag, so that pages of a rare tag are full, too."""
    surfaces: int = 8
    """Surfaces with a ranking of their own, those whose videos score most."""
    most_of_surface: int = 1000
    """Videos that are ranked higher on a surface for what was done there."""


async def compute_trending(
    database: Database, policy: TrendingPolicy, now: datetime, set_aside: SetAside | None = None
) -> Trending:
    """Rank what Postgres has counted; DatabaseUnavailableError when it is away.

    Args:
        database: Holds the counts, which a `Roller` keeps.
        policy: How.
        now: The time that the ranking bears.
        set_aside: Takes the rows that cannot be ranked.
    """
    set_aside = set_aside or SetAside("trending")
    parameters = asdict(policy)
    videos: list[TrendingVideo] = []
    surfaces: dict[str, dict[str, float]] = {}
    async with database.connection() as connection:
        await connection.execute("SET LOCAL jit = off")
        async for rows in _batches(connection, _RANKING, parameters):
            videos += set_aside.usable(rows, _video, lambda row: row[0])
        async for rows in _batches(connection, _SURFACES, parameters):
            for surface, video_id, score in rows:
                surfaces.setdefault(surface, {})[video_id] = score
    return await asyncio.to_thread(Trending, now, videos, surfaces)  # sorts thousands


async def has_counted_all(database: Database) -> bool:
    """Return whether the counts are whole; they are not while they are made for the first time, or anew."""
    async with database.connection() as connection:
        row = await (await connection.execute(_COMPLETE)).fetchone()
    return row == (True,)


async def _batches(
    connection: Connection, query: str, parameters: dict[str, Any]
) -> AsyncIterator[list[tuple[Any, ...]]]:
    async with connection.cursor() as cursor:
        await cursor.execute(query, parameters)
        while rows := await cursor.fetchmany(FETCH_ROWS):
            yield rows
            await asyncio.sleep(0)  # decoded all at once, thousands would hold up calls


def _video(row: tuple[Any, ...]) -> TrendingVideo:
    """Return the video of a row; ValueError for one that no page may show."""
    video_id, score, author_id, tags, duration_ms, published_at_us = row
    if problem := identifier_problem(video_id):
        raise ValueError(f"the id {problem}")
    if not math.isfinite(score):
        raise ValueError("the score is no number")
    if len(author_id) > MAX_ID_BYTES:
        raise ValueError("the author's id is too long")
    if tags is None:
        raise ValueError(f"it has more than {MAX_TAGS} tags, or more than {MAX_TAG_BYTES} bytes of them")
    return TrendingVideo(
        ranked=RankedVideo(video_id, score),
        author_id=author_id,
        tags=tuple([tag for tag in tags if isinstance(tag, str)]),
        duration_ms=duration_ms,
        published_at_us=published_at_us,
    )

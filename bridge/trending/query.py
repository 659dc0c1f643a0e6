"""Computes the trending ranking in Postgres."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from bridge.background.job import SetAside
from bridge.domain.page import RankedVideo
from bridge.postgres.pool import Connection, Database
from bridge.trending.ranking import Trending, TrendingVideo
from servicekit.grpc.request_checks import MAX_PAGE_SIZE
from servicekit.inputs.identifiers import MAX_ID_BYTES, identifier_problem

FETCH_ROWS: Final = 500
"""Rows decoded at a time: the event loop must not be held for long."""
MAX_TAGS: Final = 200
"""Tags of a video, which has fewer than ten as a rule; one with more is set aside."""
MAX_TAG_BYTES: Final = 8192
"""Bytes of all tags of a video."""
LAST_INSTANT: Final = datetime(9999, 12, 31, tzinfo=UTC)

_NOW: Final = "SELECT now()"
_NEWEST_BEFORE: Final = """
SELECT max(occurred_at) FROM user_interactions
WHERE occurred_at <= %s - make_interval(secs => %s) AND occurred_at > '0001-02-01 00:00Z'
"""

# A deed counts as of when it happened, but never later than Postgres took it in: a caller's or a bridge's clock may be
# wrong. Each user counts once for a video, by the strongest thing done to it: nobody can push a video alone.
# Every expression is defined for every row that the tables can hold. A product or a quotient of doubles that underflows
# ends a query in Postgres, so numbers are brought between bounds before they are used: NaN is above all others there.
_DEEDS: Final = """
WITH weights (interaction_type, weight) AS (
    VALUES ('impression', 0.05), ('watch', 1.0), ('complete', 2.0), ('like', 3.0), ('follow', 2.0), ('comment', 3.0),
           ('share', 4.0), ('favorite', 3.0), ('rating', 3.0), ('search', 1.0), ('skip', -0.5), ('hide', -2.0)
), deeds AS (
    SELECT video_id, user_id, feed_session_id, weight::float8 AS weight,
           extract(epoch FROM %(end)s - least(occurred_at, recorded_at, %(end)s))::float8 AS age_s,
           CASE interaction_type
               WHEN 'watch' THEN
                   CASE WHEN watch_time_ms > 0 THEN least(1, watch_time_ms / (
                       CASE WHEN duration_ms > 0 THEN duration_ms ELSE %(full_watch_ms)s END
                   )::float8) ELSE 0 END
               WHEN 'rating' THEN
                   CASE WHEN rating >= 0.001 AND rating < 'Infinity' THEN least(rating, 5) / 5 ELSE 0 END
               ELSE 1
           END AS share
    FROM user_interactions JOIN weights USING (interaction_type) LEFT JOIN videos USING (video_id)
    WHERE occurred_at > %(end)s - make_interval(secs => %(window_s)s) AND occurred_at <= %(latest)s
      AND recorded_at > %(end)s - make_interval(secs => %(window_s)s)
      AND (%(unknown_videos)s OR videos.video_id IS NOT NULL OR NOT EXISTS (SELECT FROM videos))
)
"""
_WEIGHT: Final = """
(greatest(0, max(weight * share)) + least(0, min(weight)))
* exp(-ln(2.0::float8) * least(100, greatest(0, min(age_s)) / greatest(%(half_life_s)s, 0.001)))
"""

# All of a ranking is in memory: no row may be large.
_FEW_TAGS: Final = f"""
cardinality(tags) <= {MAX_TAGS} AND octet_length(array_to_string(tags, '')) <= {MAX_TAG_BYTES}
"""

_RANKING: Final = f"""
{_DEEDS}, users AS (
    SELECT video_id, user_id, {_WEIGHT} AS weight FROM deeds GROUP BY video_id, user_id
), scored AS (
    SELECT video_id, sum(weight) AS score FROM users GROUP BY video_id HAVING sum(weight) > 0
), tagged AS (
    SELECT video_id, row_number() OVER (PARTITION BY tag ORDER BY score DESC, video_id) AS place
    FROM scored JOIN videos USING (video_id), unnest(tags) AS tag
    WHERE {_FEW_TAGS}
), chosen AS (
    (SELECT video_id FROM scored ORDER BY score DESC, video_id LIMIT %(most)s)
    UNION
    (SELECT video_id FROM tagged WHERE place <= %(most_of_tag)s GROUP BY video_id
     ORDER BY min(place), video_id LIMIT %(most)s)
), ranked AS (
    SELECT video_id, score FROM scored JOIN chosen USING (video_id)
)
SELECT left(video_id, {MAX_ID_BYTES + 1}), score, left(coalesce(author_id, ''), {MAX_ID_BYTES + 1}),
       CASE WHEN videos.video_id IS NULL THEN '{{}}' WHEN {_FEW_TAGS} THEN tags END, duration_ms,
       CASE WHEN published_at BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 00:00Z'
           THEN (extract(epoch FROM published_at) * 1000000)::bigint END
FROM ranked LEFT JOIN videos USING (video_id) ORDER BY score DESC, video_id
"""  # noqa: S608  # its parts are constants

# The surface of a deed is that of the page that led to it.
_SURFACES: Final = f"""
{_DEEDS}, sessions AS (
    SELECT DISTINCT ON (feed_session_id) feed_session_id, surface FROM feed_cache
    WHERE page = 1 AND octet_length(surface) BETWEEN 1 AND {MAX_ID_BYTES}
      AND feed_session_id IN (SELECT feed_session_id FROM deeds)
), users AS (
    SELECT surface, video_id, user_id, {_WEIGHT} AS weight
    FROM deeds JOIN sessions USING (feed_session_id) GROUP BY surface, video_id, user_id
), scored AS (
    SELECT surface, video_id, sum(weight) AS score,
           row_number() OVER (PARTITION BY surface ORDER BY sum(weight) DESC, video_id) AS place
    FROM users GROUP BY surface, video_id HAVING sum(weight) > 0
)
SELECT surface, left(video_id, {MAX_ID_BYTES + 1}), score FROM scored
WHERE place <= %(most_of_surface)s AND surface IN (
    SELECT surface FROM scored GROUP BY surface ORDER BY sum(score) DESC, surface LIMIT %(surfaces)s
)
"""  # noqa: S608  # its parts are constants


@dataclass(frozen=True, kw_only=True, slots=True)
class TrendingPolicy:
    """How the ranking is computed."""

    half_life_s: float = 24 * 3600.0
    """Age at which an interaction counts half."""
    window_s: float = 7 * 24 * 3600.0
    """Age, by the clock of Postgres, from which on an interaction does not count."""
    enough: int = MAX_PAGE_SIZE
    """Videos below which those of the last window before this one follow, as after a quiet week or with imported
    history only."""
    unknown_videos: bool = False
    """Whether videos that the catalogue lacks are ranked, too, where there is a catalogue."""
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


async def compute_trending(
    database: Database, policy: TrendingPolicy, now: datetime, set_aside: SetAside | None = None
) -> Trending:
    """Rank in Postgres; DatabaseUnavailableError when it is away.

    Args:
        database: Holds the interactions.
        policy: How.
        now: The time that the ranking bears.
        set_aside: Takes the rows that cannot be ranked.
    """
    set_aside = set_aside or SetAside("trending")
    async with database.connection() as connection:
        (end,) = await (await connection.execute(_NOW)).fetchone() or (None,)
        videos, surfaces = await _rank(connection, policy, end, LAST_INSTANT, set_aside)
        if len(videos) < policy.enough:
            (past,) = await (await connection.execute(_NEWEST_BEFORE, [end, policy.window_s])).fetchone() or (None,)
            if past is not None:
                earlier, earlier_surfaces = await _rank(connection, policy, past, past, set_aside)
                surfaces = surfaces or earlier_surfaces
                videos = _followed(videos, earlier)
    return await asyncio.to_thread(Trending, now, videos, surfaces)  # sorts thousands


async def _rank(
    connection: Connection, policy: TrendingPolicy, end: datetime, latest: datetime, set_aside: SetAside
) -> tuple[list[TrendingVideo], dict[str, dict[str, float]]]:
    """Return the ranking of the window that ends at an instant, and the scores of its surfaces."""
    parameters = asdict(policy) | {"end": end, "latest": latest}
    videos: list[TrendingVideo] = []
    surfaces: dict[str, dict[str, float]] = {}
    async for rows in _batches(connection, _RANKING, parameters):
        videos += set_aside.usable(rows, _video, lambda row: row[0])
    async for rows in _batches(connection, _SURFACES, parameters):
        for surface, video_id, score in rows:
            surfaces.setdefault(surface, {})[video_id] = score
    return videos, surfaces


def _followed(videos: Sequence[TrendingVideo], earlier: Iterable[TrendingVideo]) -> list[TrendingVideo]:
    """Return the videos with those of an earlier window behind them, which are given lower scores in their order."""
    known = {video.ranked.video_id for video in videos}
    added = [video for video in earlier if video.ranked.video_id not in known]
    if videos and added:
        factor = 0.5 * videos[-1].ranked.score / added[0].ranked.score
        added = [
            replace(video, ranked=RankedVideo(video.ranked.video_id, factor * video.ranked.score)) for video in added
        ]
    return [*videos, *added]


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

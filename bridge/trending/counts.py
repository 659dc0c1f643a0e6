"""Counts of what users did to videos by the hour: added to, taken back from, dropped when they are old.

A deed counts when it is the first of its user, type and video within a window: when none that was committed before it
is nearer to it, by days, than the window. So it never matters where batches are cut, and whoever counts all again comes
to the same counts. An `unlike` takes the user's likes back, and lets the next one count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.postgres.pool import Connection
from bridge.trending.formula import ADD_TO_SCORES, AMOUNT, HOUR, MARK, PROBLEM, TAKES_BACK, WEIGHTS
from servicekit.inputs.identifiers import MAX_ID_BYTES

FULL_WATCH_MS: Final = 30_000
"""Watch time that counts as a whole watch where the video's length is unknown."""

IS_OLDER: Final = "(transaction_id IS NULL OR recorded_at < %(restored_at)s::timestamptz)"
"""Interactions whose transactions say nothing: from before the column, or of another server."""
COMMITTED: Final = """
recorded_at >= %(restored_at)s::timestamptz AND transaction_id BETWEEN %(transaction_id)s AND %(last_transaction_id)s
AND (transaction_id, event_id) > (%(transaction_id)s, %(event_id)s)
AND (transaction_id, event_id) <= (%(last_transaction_id)s, %(last_event_id)s)
"""
OLDER: Final = f"""
{IS_OLDER} AND (occurred_at, event_id) > (%(older_at)s::timestamptz, %(older_id)s)
AND (occurred_at, event_id) <= (%(last_older_at)s::timestamptz, %(last_older_id)s)
"""  # a constant
OF_A_USER: Final = f"""
user_id = %(user_id)s AND CASE
    WHEN {IS_OLDER} THEN %(older_at)s::timestamptz IS NULL
        OR (occurred_at, event_id) <= (%(older_at)s::timestamptz, %(older_id)s)
    ELSE (transaction_id, event_id) <= (%(transaction_id)s, %(event_id)s)
END
"""
"""What was counted of one user."""

# In the order of commits; what is older than that was before the rest.
_ORDER: Final = (
    f"CASE WHEN NOT {IS_OLDER} THEN transaction_id END NULLS FIRST, CASE WHEN {IS_OLDER} THEN occurred_at END, event_id"
)


def _batch(rows: str) -> str:
    """Return the SQL of the deeds of rows, without those that a later one of these takes back."""
    return f"""
usable AS MATERIALIZED (
    SELECT *, ({HOUR}) AS hour, ({MARK}) AS mark, row_number() OVER (ORDER BY {_ORDER}) AS place
    FROM user_interactions WHERE {rows} AND {PROBLEM} IS NULL
), taken_back AS (
    SELECT mark, max(place) AS place FROM usable WHERE interaction_type = '{TAKES_BACK[0]}' GROUP BY mark
), deeds AS MATERIALIZED (
    SELECT usable.*, floor(hour / 24.0)::integer AS day, ({AMOUNT}) AS amount
    FROM usable LEFT JOIN taken_back USING (mark)
    WHERE usable.interaction_type <> '{TAKES_BACK[0]}' AND usable.place > coalesce(taken_back.place, 0)
      AND hour >= %(oldest_hour)s
)
"""  # noqa: S608  # its parts are constants


def _counting(rows: str) -> str:
    """Return the SQL that counts rows."""
    # The surface of a deed is that of the page that led to it.
    return f"""
WITH {WEIGHTS}, {_batch(rows)}, daily AS (
    SELECT DISTINCT ON (mark, day) * FROM deeds WHERE amount > 0 ORDER BY mark, day, place
), candidates AS (
    SELECT *, array_agg(day) OVER (
        PARTITION BY mark ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS days_before FROM daily
), judged AS MATERIALIZED (
    SELECT *, hour >= %(floor_hour)s AND NOT EXISTS (
        SELECT FROM unnest(days_before) AS before WHERE abs(before - day) <= %(window_days)s
    ) AND (
        SELECT true FROM trending_marks AS old WHERE old.mark = candidates.mark
            AND old.day BETWEEN candidates.day - %(window_days)s AND candidates.day + %(window_days)s LIMIT 1
    ) IS NULL AS counts FROM candidates
), counted AS MATERIALIZED (
    SELECT mark, day, hour, video_id, interaction_type, amount, coalesce((
        SELECT surface FROM feed_cache WHERE feed_cache.feed_session_id = judged.feed_session_id AND page = 1
            AND octet_length(surface) BETWEEN 1 AND {MAX_ID_BYTES} ORDER BY created_at LIMIT 1
    ), '') AS surface FROM judged WHERE counts
), deltas AS (
    SELECT hour, video_id, interaction_type, surface, count(*) AS deeds, sum(amount)::bigint AS amount FROM counted
    GROUP BY hour, video_id, interaction_type, surface
), buckets AS (
    INSERT INTO trending_hours AS old (hour, video_id, interaction_type, surface, country, language, deeds, amount)
    SELECT hour, video_id, interaction_type, surface, '', '', deeds, amount FROM deltas
    ON CONFLICT (hour, video_id, interaction_type, surface, country, language)
    DO UPDATE SET deeds = old.deeds + excluded.deeds, amount = old.amount + excluded.amount
    RETURNING id, hour, video_id, interaction_type, surface
), marked AS (
    INSERT INTO trending_marks (mark, day, bucket, amount)
    SELECT judged.mark, judged.day, buckets.id, CASE WHEN buckets.id IS NOT NULL THEN judged.amount END
    FROM judged LEFT JOIN counted ON counted.mark = judged.mark AND counted.day = judged.day
        LEFT JOIN buckets ON buckets.hour = counted.hour AND buckets.video_id = counted.video_id
            AND buckets.interaction_type = counted.interaction_type AND buckets.surface = counted.surface
    ON CONFLICT DO NOTHING
), {ADD_TO_SCORES}
SELECT count(*), max(hour) FROM counted
"""  # noqa: S608  # its parts are constants


def _taking_back(marks: str) -> str:
    """Return the SQL that takes back what deeds counted, by their marks, and names buckets that are empty now."""
    return f"""
WITH {WEIGHTS}, {marks}, taken AS (
    DELETE FROM trending_marks WHERE mark = ANY(ARRAY(SELECT mark FROM chosen)) RETURNING bucket, amount
), sums AS (
    SELECT bucket, count(*) AS deeds, sum(amount)::bigint AS amount FROM taken WHERE bucket IS NOT NULL GROUP BY bucket
), changed AS (
    UPDATE trending_hours AS old SET deeds = old.deeds - sums.deeds, amount = old.amount - sums.amount
    FROM sums WHERE old.id = sums.bucket AND old.id = ANY(ARRAY(SELECT bucket FROM sums))
    RETURNING old.id, old.deeds AS remaining, old.hour, old.video_id, old.interaction_type, old.surface,
        sums.deeds, sums.amount
), deltas AS (
    SELECT hour, video_id, interaction_type, surface, -deeds AS deeds, -amount AS amount FROM changed
), {ADD_TO_SCORES}
SELECT coalesce(array_agg(id) FILTER (WHERE remaining <= 0), '{{}}') FROM changed
"""  # noqa: S608  # its parts are constants


def _chosen(rows: str) -> str:
    return f"chosen AS (SELECT DISTINCT ({MARK}) AS mark FROM user_interactions WHERE {rows})"  # noqa: S608  # constants


_UNLIKED: Final = "interaction_type = '" + TAKES_BACK[0] + "' AND ({rows}) AND ({problem}) IS NULL"
_COUNT: Final = {rows: _counting(rows) for rows in (COMMITTED, OLDER, OF_A_USER)}
_UNLIKE: Final = {
    rows: _taking_back(_chosen(_UNLIKED.format(rows=rows, problem=PROBLEM))) for rows in (COMMITTED, OLDER)
}
_FORGET: Final = _taking_back(_chosen("user_id = %(user_id)s"))
_EMPTY: Final = "DELETE FROM trending_hours WHERE id = ANY(%s::bigint[])"
_GONE: Final = "DELETE FROM trending_scores WHERE deeds <= 0"
_DROP: Final = f"""
WITH {WEIGHTS}, dropped AS (
    DELETE FROM trending_hours WHERE id = ANY(ARRAY(
        SELECT id FROM trending_hours WHERE hour < %(floor_hour)s ORDER BY hour LIMIT %(most)s
    )) RETURNING hour, video_id, interaction_type, surface, deeds, amount
), deltas AS (
    SELECT hour, video_id, interaction_type, surface, -deeds AS deeds, -amount AS amount FROM dropped
), {ADD_TO_SCORES}
SELECT count(*) FROM dropped
"""  # noqa: S608  # its parts are constants
_SCORE: Final = f"""
WITH {WEIGHTS}, deltas AS (
    SELECT hour, video_id, interaction_type, surface, deeds, amount FROM trending_hours
    WHERE hour >= %(first_hour)s AND hour < %(scores_hour)s
), {ADD_TO_SCORES}
SELECT count(*) FROM deltas
"""  # noqa: S608  # its parts are constants
_NEXT_HOUR: Final = "SELECT min(hour) FROM trending_hours WHERE hour >= %s"
# Of a batch, statistics know nothing: joined by nested loops it would take minutes. Tables are read by sub-selects and
# through indexes, as the statistics of tables that grow are old.
_PLANS: Final = """
SELECT set_config(name, value, true) FROM (VALUES
    ('enable_seqscan', 'off'), ('enable_nestloop', 'off'), ('jit', 'off'), ('plan_cache_mode', 'force_custom_plan'),
    ('work_mem', '64MB')
) AS settings (name, value)
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """What came of rows: how many deeds count, and the newest hour of these."""

    deeds: int
    newest_hour: int | None


async def use_indexes(connection: Connection) -> None:
    """Let the transaction's statements read tables by indexes, and join a batch by its values."""
    await connection.execute(_PLANS)


async def count(connection: Connection, rows: str, parameters: Mapping[str, Any]) -> Counted:
    """Count rows: COMMITTED, OLDER or OF_A_USER."""
    row = await _run(connection, _COUNT[rows], parameters)
    return Counted(row[0], row[1])


async def take_back_unliked(connection: Connection, rows: str, parameters: Mapping[str, Any]) -> None:
    """Take likes back that were counted before such rows, as these say so."""
    await _take_back(connection, _UNLIKE[rows], parameters)


async def take_back_user(connection: Connection, parameters: Mapping[str, Any]) -> None:
    """Take back all that a user's rows count."""
    await _take_back(connection, _FORGET, parameters)


async def drop_old(connection: Connection, parameters: Mapping[str, Any], most: int) -> int:
    """Drop counts from before the floor, at most so many; return how many."""
    dropped: int = (await _run(connection, _DROP, {**parameters, "most": most}))[0]
    if dropped:
        await connection.execute(_GONE)
    return dropped


async def score_next(connection: Connection, parameters: Mapping[str, Any], hour: int, hours: int) -> int | None:
    """Add some hours, the first ones from one on, to the scores; return the one behind them, None for no hour."""
    row = await (await connection.execute(_NEXT_HOUR, [hour])).fetchone()
    found: int | None = row[0] if row else None
    if found is None:
        return None
    await _run(connection, _SCORE, {**parameters, "first_hour": found, "scores_hour": found + hours})
    return found + hours


async def _take_back(connection: Connection, query: str, parameters: Mapping[str, Any]) -> None:
    empty = (await _run(connection, query, parameters))[0]
    if empty:
        await connection.execute(_EMPTY, [empty])
    await connection.execute(_GONE)


async def _run(connection: Connection, query: str, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
    values = {"full_watch_ms": FULL_WATCH_MS, **parameters}
    return await (await connection.execute(query.encode(), values)).fetchone() or (0, None)

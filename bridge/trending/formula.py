"""What a deed is worth, and how worth fades: weights, and the SQL that every statement of trending shares.

Points fade by half in each half-life, so that the order of two videos never changes by time alone (forward decay). A
score is kept as points as of an hour; its strength, the logarithm of the points plus the half-lives since 1970, orders
videos and never has to be touched again.
"""

from typing import Final

from servicekit.inputs.identifiers import MAX_ID_BYTES

FORMULA: Final = 1
"""Number of this formula. A program with a higher one makes the scores anew; one with a lower one counts no longer."""
THOUSANDTHS: Final = {
    "impression": 50,
    "watch": 1000,
    "complete": 2000,
    "like": 3000,
    "follow": 2000,
    "comment": 3000,
    "share": 4000,
    "favorite": 3000,
    "rating": 3000,
    "search": 1000,
    "skip": -500,
    "hide": -2000,
}
"""Points of a user's first deed of each type for a video, in thousandths; those of all types add up."""
MAX_POINTS: Final = sum(weight for weight in THOUSANDTHS.values() if weight > 0) / 1000
"""By which one user raises a video at most within a window."""
TAKES_BACK: Final = ("unlike", "like")
"""A deed, and the one that it takes back."""
TYPES: Final = [*THOUSANDTHS, TAKES_BACK[0]]
WHOLE: Final = 1_000_000
"""Amount of a deed that counts whole; a watch counts by the watched share."""
MAX_HALVINGS: Final = 200
"""Half-lives after which points are none beside newer ones. Doubles that underflow end a query in Postgres."""
MIN_POINTS: Final = 1e-9
"""Points below which a video has none: what sums of doubles leave."""

_weights = ", ".join(f"('{kind}', {weight})" for kind, weight in THOUSANDTHS.items())
WEIGHTS: Final = f"weights (interaction_type, weight) AS (VALUES {_weights})"

HOUR: Final = "floor(extract(epoch FROM least(occurred_at, recorded_at)) / 3600)::integer"
"""The hour, since 1970, in which a deed counts: a caller's or a bridge's clock may be wrong, Postgres' is one."""

PROBLEM: Final = rf"""
CASE
    WHEN interaction_type <> ALL(%(types)s::text[]) THEN 'the type of interaction is unknown'
    WHEN octet_length(video_id) NOT BETWEEN 1 AND {MAX_ID_BYTES} THEN 'the id is empty or too long'
    WHEN video_id ~ '[\u0001-\u001f\u007f-\u009f]' THEN 'the id has control characters'
    WHEN least(occurred_at, recorded_at) > now() + interval '1 hour' THEN 'it is from the future'
    WHEN NOT least(occurred_at, recorded_at) > '0001-02-01 00:00Z' THEN 'it is before all time'
END
"""
"""What keeps a row from being counted; NULL for nothing."""

MARK: Final = f"""
hashtextextended(concat(
    octet_length(user_id), ':', octet_length(video_id), ':', user_id, video_id,
    CASE interaction_type WHEN '{TAKES_BACK[0]}' THEN '{TAKES_BACK[1]}' ELSE interaction_type END
), %(seed)s)
"""
"""Digest of a user, a video and a type. The seed is the database's own, so that nobody can aim at others' digests."""

# Every expression is defined for every row that the tables can hold: NaN is above all others in Postgres.
AMOUNT: Final = f"""
round({WHOLE} * CASE interaction_type
    WHEN 'watch' THEN
        CASE WHEN watch_time_ms > 0 THEN least(1, watch_time_ms / coalesce((
            SELECT duration_ms FROM videos WHERE videos.video_id = usable.video_id AND duration_ms > 0
        ), %(full_watch_ms)s)::float8) ELSE 0 END
    WHEN 'rating' THEN CASE WHEN rating >= 0.001 AND rating < 'Infinity' THEN least(rating, 5) / 5 ELSE 0 END
    ELSE 1
END)::bigint
"""  # noqa: S608  # its parts are constants


def halved(hours: str) -> str:
    """Return the SQL of what is left of a point after hours."""
    halvings = f"({hours}) * 3600::float8 / %(half_life_s)s::float8"
    return f"CASE WHEN {halvings} > {MAX_HALVINGS} THEN 0 ELSE power(2::float8, -({halvings})) END"


def strength(hour: str, total: str) -> str:
    """Return the SQL of the strength of points as of an hour; NULL where there are none."""
    return (
        f"CASE WHEN {total} > {MIN_POINTS} THEN {hour} * 3600::float8 / %(half_life_s)s::float8"
        f" + ln({total}) / ln(2::float8) END"
    )


# Only one process changes scores at a time, so rows need no order. `deltas` are changes of trending_hours. While scores
# are made anew, hours from scores_hour on are not in them yet.
ADD_TO_SCORES: Final = f"""
points AS (
    SELECT video_id, hour, surface, sum(deeds) AS deeds, (sum(amount * weight) / {1000 * WHOLE}.0)::float8 AS points
    FROM deltas JOIN weights USING (interaction_type) WHERE hour < %(scores_hour)s
    GROUP BY video_id, hour, surface
), placed AS (
    SELECT '' AS surface, video_id, hour, deeds, points FROM points
    UNION ALL
    SELECT surface, video_id, hour, deeds, points FROM points WHERE surface <> ''
), newest AS (
    SELECT *, max(hour) OVER (PARTITION BY surface, video_id) AS newest FROM placed
), changes AS (
    SELECT surface, video_id, newest AS hour, sum(deeds) AS deeds, sum(points * {halved("newest - hour")}) AS total
    FROM newest GROUP BY surface, video_id, newest
), scored AS (
    INSERT INTO trending_scores AS old (surface, country, language, video_id, hour, deeds, total, strength)
    SELECT surface, '', '', video_id, hour, deeds, total, {strength("hour", "total")} FROM changes
    ON CONFLICT (surface, country, language, video_id) DO UPDATE SET (hour, deeds, total, strength) = (
        SELECT hour, deeds, CASE WHEN deeds > 0 THEN total ELSE 0 END,
            CASE WHEN deeds > 0 THEN {strength("hour", "total")} END
        FROM (SELECT
            greatest(old.hour, excluded.hour) AS hour,
            old.deeds + excluded.deeds AS deeds,
            old.total * {halved("greatest(old.hour, excluded.hour) - old.hour")}
                + excluded.total * {halved("greatest(old.hour, excluded.hour) - excluded.hour")} AS total
        ) AS new
    )
)
"""  # noqa: S608  # its parts are constants

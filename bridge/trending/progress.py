"""How far trending has counted: one row, which only its lock's holder changes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bridge.postgres.pool import Connection
from bridge.trending.formula import FORMULA, TYPES

LOCK: Final = 4_701_007
"""Held, for a transaction, by whoever changes counts; the migration's `trending_maintain` takes it, too."""
FIRST_HOUR: Final = -(2**31)
LAST_HOUR: Final = 2**31 - 1
LAST_ID: Final = UUID(int=2**128 - 1)
FIRST_ID: Final = UUID(int=0)
HOUR_S: Final = 3600.0

_LOAD: Final = """
SELECT transaction_id, event_id, older_at::text, older_id, made_at, restored_at::text, scores_hour, complete,
    newest_hour, floor_hour, window_h, half_life_s, formula, seed
FROM trending_progress
"""
_STATE: Final = """
SELECT CASE WHEN complete THEN 'yes' ELSE 'no' END,
    coalesce(to_char(nullif(counted_at, '-infinity') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'never'),
    coalesce(extract(epoch FROM clock_timestamp() - nullif(counted_at, '-infinity'))::bigint, 0),
    CASE WHEN floor_hour > -2147483648
        THEN to_char(to_timestamp(floor_hour * 3600.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24"Z"')
        ELSE 'the beginning' END,
    (SELECT count(*) FROM user_interactions WHERE occurred_at >= CASE WHEN floor_hour > -2147483648
        THEN to_timestamp((floor_hour - window_h) * 3600.0) ELSE '-infinity' END)
FROM trending_progress
"""
_ADOPT: Final = "UPDATE trending_progress SET window_h = %s"
_SCORES_ANEW: Final = """
UPDATE trending_progress SET half_life_s = %s, formula = %s, scores_hour = %s, complete = false
"""
_SCORED: Final = "UPDATE trending_progress SET scores_hour = %s"
_MOVE: Final = """
UPDATE trending_progress SET transaction_id = %s, event_id = %s, older_at = %s::timestamptz, older_id = %s,
    counted_at = greatest(counted_at, %s), newest_hour = greatest(newest_hour, %s), complete = complete OR %s
"""
# Others may have taken interactions in before this is noticed, and the last ones of the dump were not counted.
_RESTORED: Final = """
UPDATE trending_progress SET origin = %(position)s, transaction_id = %(position)s, event_id = %(last_id)s,
    made_at = now(), restored_at = now(), older_at = coalesce(older_at, counted_at - interval '1 hour'),
    older_id = CASE WHEN older_at IS NULL THEN %(first_id)s ELSE older_id END
"""
_RESET: Final = """
UPDATE trending_progress SET transaction_id = origin, event_id = %s, older_id = %s, scores_hour = NULL,
    older_at = CASE WHEN EXISTS (SELECT FROM user_interactions WHERE occurred_at <= made_at + interval '1 day'
        AND (transaction_id IS NULL OR recorded_at < restored_at) LIMIT 1) THEN '-infinity'::timestamptz END,
    complete = false, counted_at = '-infinity', newest_hour = %s, half_life_s = 0, formula = 0
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far trending has counted.

    Attributes:
        transaction_id: Of the last interaction that was counted,
        event_id: and its identifier.
        older_at: The same for interactions without a transaction, by when they occurred, as Postgres writes it; None
            when all are counted.
        older_id: The identifier of that one.
        made_at: No interaction without a transaction was taken in later.
        restored_at: Transactions of interactions that were taken in before are those of another server: Postgres was
            restored from a dump. As Postgres writes it.
        scores_hour: While scores are made anew: the first hour that is not in them.
        complete: Whether all was counted once, so that the scores may be served.
        newest_hour: The newest hour in which anything counts.
        floor_hour: The oldest.
        window_h: Hours in which a user's deed counts once.
        half_life_s: With which the scores were made.
        formula: The same.
        seed: Of the digests.
    """

    transaction_id: int
    event_id: UUID
    older_at: str | None
    older_id: UUID
    made_at: datetime
    restored_at: str
    scores_hour: int | None
    complete: bool
    newest_hour: int
    floor_hour: int
    window_h: int
    half_life_s: float
    formula: int
    seed: int

    @property
    def window_days(self) -> int:
        """Days on both sides of a deed in which an earlier one of the same kind keeps it from counting."""
        return -(-self.window_h // 24)

    @property
    def oldest_day(self) -> int:
        """The first day of which deeds are remembered."""
        return self.floor_hour // 24 - self.window_days

    def parameters(self) -> Mapping[str, Any]:
        """Return what statements of trending are given."""
        return {
            "seed": self.seed,
            "types": TYPES,
            "window_days": self.window_days,
            "oldest_hour": max(FIRST_HOUR, 24 * self.oldest_day),
            "floor_hour": self.floor_hour,
            "half_life_s": self.half_life_s,
            "scores_hour": LAST_HOUR if self.scores_hour is None else self.scores_hour,
            "made_at": self.made_at,
            "restored_at": self.restored_at,
        }


_FIELDS: Final = tuple(field.name for field in fields(Progress))


async def try_lock(connection: Connection) -> bool:
    """Return whether this transaction may change counts: none other does."""
    row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])).fetchone()
    return row == (True,)


async def lock(connection: Connection) -> None:
    """Wait until no other transaction changes counts; each takes seconds at most."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


async def load(connection: Connection) -> Progress:
    """Return the row."""
    row = await (await connection.execute(_LOAD)).fetchone()
    if row is None:
        raise RuntimeError("the table trending_progress is empty: set its row as the migration does")
    return Progress(**dict(zip(_FIELDS, row, strict=True)))


async def state(connection: Connection) -> Mapping[str, object]:
    """Return how far is counted, for people to read."""
    row = await (await connection.execute(_STATE)).fetchone()
    names = ("all counted once", "counted until", "seconds behind", "counts since", "interactions to read")
    return dict(zip(names, row or (), strict=False))


async def adopt(connection: Connection, progress: Progress, *, window_h: int, half_life_s: float) -> Progress:
    """Let counts follow these settings; the scores are made anew where they were made with others."""
    if progress.window_h != window_h:
        await connection.execute(_ADOPT, [window_h])
    if (progress.half_life_s, progress.formula) != (half_life_s, FORMULA):
        await connection.execute("DELETE FROM trending_scores")
        await connection.execute(_SCORES_ANEW, [half_life_s, FORMULA, FIRST_HOUR])
    return await load(connection)


async def scored_below(connection: Connection, hour: int | None) -> None:
    """Note that scores hold all that counts from before an hour; None when they hold all."""
    await connection.execute(_SCORED, [hour])


async def move(
    connection: Connection, progress: Progress, *, counted_at: datetime | None, newest_hour: int | None, complete: bool
) -> None:
    """Note how far was counted."""
    await connection.execute(
        _MOVE,
        [
            progress.transaction_id,
            progress.event_id,
            progress.older_at,
            progress.older_id,
            counted_at,
            newest_hour,
            complete,
        ],
    )


async def restart_at(connection: Connection, transaction_id: int) -> None:
    """Go on from a transaction, as the database is a restored one whose numbers began anew.

    Interactions of the last hour are looked at once more, which counts nothing twice.
    """
    await connection.execute(_RESTORED, {"position": transaction_id, "last_id": LAST_ID, "first_id": FIRST_ID})


async def reset(connection: Connection) -> None:
    """Forget all counts, so that they are made anew; the floor stays. Needs the right to truncate."""
    await lock(connection)
    await connection.execute("TRUNCATE trending_hours, trending_marks, trending_scores")
    await connection.execute(_RESET, [LAST_ID, FIRST_ID, FIRST_HOUR])

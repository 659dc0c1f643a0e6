"""Counts that grow are those that counting anew makes, and what the definition says; whatever comes when."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bridge.maintenance.erasure import erase, forget_before
from bridge.postgres.pool import Database
from bridge.trending.formula import MAX_POINTS, THOUSANDTHS, WHOLE
from bridge.trending.progress import Progress, load
from bridge.trending.roller import CountingPolicy, Roller
from tests.bridge.support.trending import COUNTING, Ranked, count_anew, counts, empty, store, strengths

WINDOW_H: Final = 48
COUNTS: Final = CountingPolicy(window_h=WINDOW_H, half_life_s=7200, enough=3)
ORDERED: Final = """
SELECT user_id, video_id, interaction_type, watch_time_ms, rating,
    floor(extract(epoch FROM least(occurred_at, recorded_at)) / 3600)::integer, feed_session_id
FROM user_interactions
ORDER BY transaction_id NULLS FIRST, CASE WHEN transaction_id IS NULL THEN occurred_at END, event_id
"""


@dataclass(frozen=True)
class Stored:
    """Interactions that are committed at once, and how many a step takes afterwards; none for no step."""

    rows: Sequence[dict[str, Any]]
    batch: int


@dataclass(frozen=True)
class Erased:
    """A user who is erased, or only up to so many hours ago."""

    user: str
    hours: int | None


async def defined_counts(database: Database) -> Counter[tuple[Any, ...]]:
    """Return what the definition says of the rows that are there, read one by one."""
    async with database.connection() as connection:
        progress: Progress = await load(connection)
        rows = await (await connection.execute(ORDERED)).fetchall()
    remembered: dict[tuple[str, ...], list[tuple[int, tuple[Any, ...] | None]]] = {}
    found: Counter[tuple[Any, ...]] = Counter()
    for user, video, kind, watch_ms, rating, hour, session in rows:
        if kind == "unlike":
            found.subtract([bucket for _, bucket in remembered.pop((user, video, "like"), ()) if bucket])
            continue
        share = {"watch": min(1, watch_ms / 30_000), "rating": min(rating or 0, 5) / 5}.get(kind, 1)
        if hour // 24 < progress.oldest_day or share <= 0:
            continue
        before = remembered.setdefault((user, video, kind), [])
        counts_ = hour >= progress.floor_hour and all(abs(day - hour // 24) > progress.window_days for day, _ in before)
        bucket = (hour, video, kind, "home" if session else "", "", "", round(WHOLE * share)) if counts_ else None
        before.append((hour // 24, bucket))
        found.update([bucket] if bucket else [])
    summed: Counter[tuple[Any, ...]] = Counter()
    for bucket, deeds in found.items():
        summed[(*bucket[:6], "deeds")] += deeds
        summed[(*bucket[:6], "amount")] += deeds * bucket[6]
    return +summed


async def kept_counts(database: Database) -> Counter[tuple[Any, ...]]:
    """Return what is kept, in the same form."""
    kept: Counter[tuple[Any, ...]] = Counter()
    for *bucket, deeds, amount in await counts(database):
        kept[(*bucket, "deeds")], kept[(*bucket, "amount")] = deeds, amount
    return kept


PHASES: Final = [phase for phase in Phase if phase is not Phase.shrink]
"""Each example takes half a second: to look for the smallest one that fails would take minutes."""
# Few users, videos and distances, so that in few rows one deed is often a window away from another of its kind.
KINDS: Final = ["like", "like", "like", "unlike", "watch", "hide", "rating"]
ROW = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u1", "u1", "u2"]),
        "video_id": st.sampled_from(["v1", "v1", "v1", "v2", "v3"]),
        "interaction_type": st.sampled_from(KINDS),
        "occurred_at": st.sampled_from([0, 24, 48, 72, 96, 120]) | st.integers(0, 9 * 24),
        "watch_time_ms": st.sampled_from([0, 7, 10_000, 50_000]),
        "rating": st.sampled_from([None, 1.0, 5.0]),
        "feed_session_id": st.sampled_from([None, "s1"]),
    }
)
ROWS = st.lists(ROW, min_size=1, max_size=8)
WHATEVER = st.lists(
    st.builds(Stored, ROWS, st.integers(0, 9))
    | st.builds(Erased, st.sampled_from(["u1", "u2"]), st.none() | st.integers(0, 200)),
    min_size=1,
    max_size=5,
)


async def test_counts_that_grow_are_those_that_are_made_anew(database: Database) -> None:
    """Late rows, unlikes, erasures, rows from before the counts: in any order, cut anywhere."""
    loop, now = asyncio.get_running_loop(), datetime.now(UTC)

    async def check(older: list[dict[str, Any]], events: list[Stored | Erased], batch: int) -> None:
        await empty(database)
        async with database.connection() as connection:
            await connection.execute(
                "INSERT INTO feed_cache VALUES (now(), 's1', 1, 'u', 'home', '', '', '', '', '', '{}')"
            )
        await store(database, *[{**_at(row, now), "transaction_id": None} for row in older])
        async with database.connection() as connection:
            await connection.execute("UPDATE trending_progress SET older_at = '-infinity', made_at = now()")
        for event in events:
            await _happen(database, event, now)
        await Roller(database, COUNTS, batch=5).catch_up()
        kept, scores = await kept_counts(database), await _points(database, now)
        assert kept == await defined_counts(database)
        await count_anew(database, COUNTS, batch=batch)
        floor = await _floor(database)  # which what is counted anew may raise earlier
        assert await kept_counts(database) == Counter({key: kept[key] for key in kept if key[0] >= floor})
        if any(key[0] < floor for key in kept):
            return
        anew = await _points(database, now)
        for key in {*anew, *scores}:
            assert anew.get(key, 0) == pytest.approx(scores.get(key, 0), rel=1e-9, abs=1e-8)

    @settings(max_examples=20, phases=PHASES)
    @given(st.lists(ROW, max_size=6), WHATEVER, st.sampled_from([3, 1000]))
    def property_(older: list[dict[str, Any]], events: list[Stored | Erased], batch: int) -> None:
        asyncio.run_coroutine_threadsafe(check(older, events, batch), loop).result(timeout=600)

    await asyncio.to_thread(property_)


async def _floor(database: Database) -> int:
    async with database.connection() as connection:
        return (await load(connection)).floor_hour


async def _points(database: Database, now: datetime) -> dict[tuple[str, str], float]:
    """Return scores as points of now: what is taken back leaves its rounding, which older points may be below."""
    halvings = now.timestamp() / COUNTS.half_life_s
    return {key: 2.0 ** (strength - halvings) for key, strength in (await strengths(database)).items()}


def _at(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    return row | {"occurred_at": now - timedelta(hours=row["occurred_at"])}


async def _happen(database: Database, event: Stored | Erased, now: datetime) -> None:
    if isinstance(event, Stored):
        await store(database, *[_at(row, now) for row in event.rows])
        if event.batch:
            await Roller(database, COUNTS, batch=event.batch).step()
        return
    async with database.connection() as connection:
        if event.hours is None:
            await erase(connection, event.user, topics=())
        else:
            until_ms = int((now - timedelta(hours=event.hours)).timestamp() * 1000)
            await forget_before(connection, event.user, until_ms)


async def test_one_user_raises_a_video_by_so_much_and_no_more(database: Database) -> None:
    """Who repeats all deeds a thousand times, by several bridges, counts once a type."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, watch_time_ms, rating)"
            " SELECT 'bot', 'pushed', kind, now() - n * interval '10 minutes', 30000, 5"
            " FROM generate_series(0, 999) AS n, unnest(%s::text[]) AS kind",
            [[kind for kind, weight in THOUSANDTHS.items() if weight > 0]],
        )
    bridges = [Roller(database, CountingPolicy(window_h=168, half_life_s=1e9, enough=500), batch=701) for _ in "ab"]
    await asyncio.gather(*[bridge.catch_up() for bridge in bridges])
    assert sum(row[6] for row in await counts(database)) == 10
    (score,) = (await Ranked(database=database, counting=COUNTING).scores()).values()
    assert score <= MAX_POINTS == 22.05


async def test_unlike_takes_the_like_back_and_lets_the_next_one_count(database: Database) -> None:
    ranked = Ranked(database=database)
    await store(database, {"user_id": "u1"}, {"user_id": "u2"})
    assert await ranked.scores() == {"v1": 6.0}
    await store(database, {"user_id": "u1", "interaction_type": "unlike"})
    assert await ranked.scores() == {"v1": 3.0}
    await store(database, {"user_id": "u1"}, {"user_id": "u1"})
    assert await ranked.scores() == {"v1": 6.0}
    await store(database, *[{"user_id": user, "interaction_type": "unlike"} for user in ("u1", "u2", "u3")])
    assert await ranked.scores() == {}
    assert await counts(database) == []


async def test_an_erased_user_counts_no_longer(database: Database) -> None:
    ranked = Ranked(database=database)
    await store(database, {"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "u1", "video_id": "v2"})
    assert await ranked.scores() == {"v1": 6.0, "v2": 3.0}
    async with database.connection() as connection:
        await erase(connection, "u1", topics=())
    assert await ranked.scores() == {"v1": 3.0}

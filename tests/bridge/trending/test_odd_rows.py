"""Rows that no page may show, or that nobody can count, stop nothing."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.analytics.user_features import Features
from bridge.background.job import SetAside
from bridge.domain.interaction import InteractionType
from bridge.kafka.message import Message
from bridge.postgres.pool import Database
from bridge.trending.query import compute_trending
from bridge.trending.roller import CountingPolicy, Roller
from servicekit.inputs.identifiers import identifier_problem
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.trending import COUNTING, POLICY, THEN, Ranked, empty, fill, store
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer

HOSTILE_ROWS: list[dict[str, Any]] = [
    {"interaction_type": "rating", "rating": 5e-324},
    {"interaction_type": "rating", "rating": 1e308},
    {"interaction_type": "rating", "rating": -1e308},
    {"interaction_type": "rating", "rating": float("nan")},
    {"interaction_type": "rating", "rating": float("inf")},
    {"interaction_type": "rating", "rating": float("-inf")},
    {"interaction_type": "rating", "rating": None},
    {"interaction_type": "watch", "watch_time_ms": 2**63 - 1},
    {"interaction_type": "watch", "watch_time_ms": -(2**63)},
    {"interaction_type": "watch", "watch_time_ms": 1, "video_id": "longest"},
    {"interaction_type": "watch", "watch_time_ms": 1, "video_id": "negative"},
    {"interaction_type": "unheard of"},
    {"occurred_at": "infinity"},
    {"occurred_at": "-infinity"},
    {"occurred_at": "4713-01-01 BC"},
    {"occurred_at": "294276-12-31"},
    {"recorded_at": "infinity"},
    {"recorded_at": "-infinity"},
    {"video_id": ""},
    {"video_id": "x" * 5000},
    {"video_id": "a\nb"},
    {"user_id": ""},
    {"feed_session_id": "x" * 2000},
]


@pytest.mark.parametrize("half_life_s", [1e-9, 0.36, 36.0, 360.0, 86_400.0, 1e12])
async def test_no_row_stops_the_ranking(database: Database, half_life_s: float) -> None:
    """Whatever the tables hold, and however short or long the half-life is: the others are ranked, bad ids left out."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos (video_id, duration_ms, published_at, tags) VALUES"
            " ('longest', %s, 'infinity', '{NULL}'), ('negative', -5, '-infinity', '{{a,b},{c,d}}'),"
            " ('v7', 0, '294276-12-31', '{}'), ('v8', NULL, '4713-01-01 BC', '{\u2028}')",
            [2**63 - 1],
        )
    await fill(database, 200)
    await store(database, *HOSTILE_ROWS)
    counting = CountingPolicy(window_h=168, half_life_s=half_life_s, enough=500)
    trending = await Ranked(database=database, counting=counting).trending()
    ids = [video.ranked.video_id for video in trending.videos]
    assert {f"v{number}" for number in range(1, 201)} <= {*ids}
    assert not [one for one in ids if identifier_problem(one)]
    assert all(math.isfinite(video.ranked.score) for video in trending.videos)


async def test_odd_rows_are_counted_and_named_once(database: Database, dogstatsd: DogStatsdServer) -> None:
    """What cannot be counted is set aside as it is counted, and does not come back."""
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    await store(database, {"video_id": "a\nb"}, {"video_id": ""}, {"interaction_type": "unheard of"}, {})
    roller = Roller(database, COUNTING, metrics=metrics)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await roller.catch_up()
    trending = await compute_trending(database, POLICY, THEN)
    assert [video.ranked.video_id for video in trending.videos] == ["v1"]
    told = [(log["event"], log.get("count"), {*log.get("rows", ())}) for log in logs if "rows." in log["event"]]
    assert told == [("rows.set_aside", 3, {"a\nb", "", "v1"}), ("rows.all_usable", None, set())]
    metrics.close()
    tag = "job:trending-counts"
    await until(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.jobs.rows_set_aside", tag)) == 3)


async def test_a_row_that_postgres_refuses_is_found_and_set_aside(database: Database) -> None:
    """Whatever it is that Postgres does not take of one row: all others count."""
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE trending_hours ADD CONSTRAINT odd CHECK (video_id <> 'v70')")
    try:
        await fill(database, 100)
        with structlog.testing.capture_logs() as logs:
            trending = await Ranked(database=database).trending()
    finally:
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE trending_hours DROP CONSTRAINT odd")
    ids = {video.ranked.video_id for video in trending.videos}
    assert ids == {f"v{number}" for number in range(1, 101)} - {"v70"}
    assert [log["count"] for log in logs if log["event"] == "rows.set_aside"] == [1]


async def test_large_rows_are_set_aside(database: Database) -> None:
    """A megabyte in one row of a table that others fill is not brought into the memory of a bridge."""
    set_aside = SetAside("trending")
    videos = ("good", "tagged", "long tag", "long author", "x" * 1_000_000)
    catalogue = {
        "good": "'a', array_fill('t'::text, ARRAY[200])",
        "tagged": "'a', array_fill('t'::text, ARRAY[201])",
        "long tag": "'a', ARRAY[repeat('t', 1000000)]",
        "long author": "repeat('a', 1000000), ARRAY['t']",
    }
    async with database.connection() as connection:
        for video in videos:
            await connection.execute(
                "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, feed_session_id)"
                " VALUES ('u', %s, 'like', now(), 's')",
                [video],
            )
        for video, columns in catalogue.items():
            insert = f"INSERT INTO videos (video_id, author_id, tags) VALUES (%s, {columns})"  # noqa: S608  # constants
            await connection.execute(insert, [video])
        await connection.execute(
            "INSERT INTO feed_cache (created_at, feed_session_id, page, user_id, surface, served_by, fallback_reason,"
            " algorithm, model_version, experiment_variant_id, video_ids)"
            " VALUES (now(), 's', 1, 'u', repeat('s', 1000000), '', '', '', '', '', '{}')"
        )
    trending = await Ranked(database=database, set_aside=set_aside).trending()
    assert [video.ranked.video_id for video in trending.videos] == ["good"]
    assert trending.surface_scores == {}
    assert set_aside.report() == 3  # the one with a long id was not counted


ROWS = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u1", "u2"]),
        "video_id": st.sampled_from(["v1", "v2", "v3"]),
        "interaction_type": st.sampled_from([*InteractionType]),
        "watch_time_ms": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 86_400_000),
        "rating": st.none() | st.floats() | st.floats(0, 5),
        "occurred_at": st.datetimes(datetime(1, 2, 1), datetime(9999, 12, 1), timezones=st.just(UTC))  # noqa: DTZ001
        | st.floats(-86_400 * 40, 86_400 * 40).map(lambda seconds: datetime.now(UTC) + timedelta(seconds=seconds)),
        "feed_session_id": st.none() | st.sampled_from(["s1", "s2"]),
    }
)


class _Sent:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []

    def publish(self, message: Message, done: Callable[[bool], None]) -> None:
        self.values.append(json.loads(message.value or "", parse_constant=_no_constant))
        done(True)  # noqa: FBT003  # the callback's only argument

    refusals = 0

    async def send_singly(self, messages: Sequence[Message]) -> list[Any]:
        raise NotImplementedError


def _no_constant(name: str) -> None:
    raise ValueError(name)


async def test_any_stored_interaction_leaves_the_jobs_running(database: Database) -> None:
    """Whatever fields an interaction has: trending ranks, and features are published as JSON."""
    loop = asyncio.get_running_loop()

    async def check(rows: list[dict[str, Any]], half_life_s: float) -> None:
        await empty(database)
        await store(database, *rows, {"video_id": "good"})
        counting = CountingPolicy(window_h=167, half_life_s=half_life_s, enough=500)
        trending = await Ranked(database=database, counting=counting).trending()
        assert "good" in {video.ranked.video_id for video in trending.videos}
        sent = _Sent()
        assert await Features(database, sent, interval_s=300).publish() >= 1
        assert all(0 <= value["watchTime7d"] <= 2**53 for value in sent.values)

    @settings(max_examples=40)
    @given(st.lists(ROWS, max_size=8), st.floats(1e-3, 1e9))
    def property_(rows: list[dict[str, Any]], half_life_s: float) -> None:
        asyncio.run_coroutine_threadsafe(check(rows, half_life_s), loop).result(timeout=60)

    await asyncio.to_thread(property_)

"""The trending ranking, computed by Postgres."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from bridge.analytics.user_features import Features
from bridge.background.job import SetAside
from bridge.background.supervision import background
from bridge.domain.interaction import InteractionType
from bridge.domain.page import VideoFilter
from bridge.kafka.message import Message
from bridge.postgres.pool import Database, DatabaseUnavailableError
from bridge.trending.query import TrendingPolicy, compute_trending
from bridge.trending.ranking import CurrentTrending
from bridge.trending.refresher import TrendingRefresher
from deploy.local.postgres import Postgres
from servicekit.inputs.identifiers import identifier_problem
from servicekit.telemetry.metrics import connect_metrics
from tests.bridge.support.waiting import until
from tests.support.dogstatsd import DogStatsdServer

THEN = datetime(2022, 4, 30, tzinfo=UTC)
"""Long ago, as imported history is: what counts is the age beside the newest event."""
POLICY = TrendingPolicy(half_life_s=3600, window_s=10 * 3600, unknown_videos=True)


@pytest.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await database.open()
    async with background("schema", database.keep_schema):
        await until(database.ready.is_set)
        yield database
    await database.close()


@pytest.fixture
async def database(pool: Database) -> Database:
    async with pool.connection() as connection:
        await connection.execute("TRUNCATE user_interactions, videos")
    return pool


async def _add(
    database: Database, user: str, video: str, kind: str, *, hours: float = 0, watch_ms: int = 0, rating: float = 0
) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, watch_time_ms, rating)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [user, video, kind, THEN - timedelta(hours=hours), watch_ms, rating],
        )


async def _scores(database: Database, policy: TrendingPolicy = POLICY) -> dict[str, float]:
    trending = await compute_trending(database, policy, THEN)
    return {video.ranked.video_id: round(video.ranked.score, 6) for video in trending.videos}


async def test_empty_table(database: Database) -> None:
    assert await _scores(database) == {}


async def test_decay_of_history_is_relative_to_its_newest_event(database: Database) -> None:
    """Each half-life halves; what is older than the window does not count; equal scores go by id."""
    for video, hours in (("now", 0), ("now2", 0), ("old", 1), ("older", 2), ("gone", 10)):
        await _add(database, "u1", video, "like", hours=hours)
    scores = await _scores(database)
    assert scores == {"now": 3.0, "now2": 3.0, "old": 1.5, "older": 0.75}
    assert list(scores) == ["now", "now2", "old", "older"]


async def test_each_user_counts_once(database: Database) -> None:
    for _ in range(50):
        await _add(database, "bot", "pushed", "share")
    await _add(database, "u1", "loved", "share")
    await _add(database, "u2", "loved", "share")
    assert await _scores(database) == {"loved": 8.0, "pushed": 4.0}


async def test_watching_counts_by_completion(database: Database) -> None:
    """Of the video's length where the catalogue has it, else of half a minute; more than all of it is all of it."""
    async with database.connection() as connection:
        await connection.execute("INSERT INTO videos (video_id, duration_ms) VALUES ('long', 60000), ('zero', 0)")
    await _add(database, "u1", "long", "watch", watch_ms=15_000)
    await _add(database, "u1", "unknown", "watch", watch_ms=15_000)
    await _add(database, "u1", "zero", "watch", watch_ms=24_000)
    await _add(database, "u1", "again", "watch", watch_ms=10_000_000)
    assert await _scores(database) == {"again": 1.0, "zero": 0.8, "unknown": 0.5, "long": 0.25}


async def test_dislikes_count_against(database: Database) -> None:
    await _add(database, "u1", "divisive", "like")
    await _add(database, "u2", "divisive", "hide")
    await _add(database, "u1", "bad", "hide")
    await _add(database, "u1", "rated", "rating", rating=5)
    await _add(database, "u1", "panned", "rating", rating=1)
    assert await _scores(database) == {"rated": 3.0, "divisive": 1.0, "panned": 0.6}


async def test_top_n_with_the_catalogue(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos VALUES"
            " ('v1', 'a', '{x,y}', 5, '2022-04-01T00:00:00.000001Z'), ('v2', NULL, '{}', NULL, NULL)"
        )
    for video, likes in (("v1", 3), ("v2", 2), ("v3", 1), ("v4", 0)):
        for user in range(likes + 1):
            await _add(database, f"u{user}", video, "like")
    trending = await compute_trending(database, TrendingPolicy(most=3, unknown_videos=True), THEN)
    first, second, third = trending.videos
    assert [video.ranked.video_id for video in trending.videos] == ["v1", "v2", "v3"]
    assert (first.author_id, first.tags, first.duration_ms) == ("a", ("x", "y"), 5)
    assert first.published_at_us == int(datetime(2022, 4, 1, tzinfo=UTC).timestamp()) * 10**6 + 1
    assert (second.author_id, second.tags, second.duration_ms, second.published_at_us) == ("", (), None, None)
    assert (third.author_id, third.tags) == ("", ())


def _refresher(board: CurrentTrending, database: Database, path: Path) -> TrendingRefresher:
    return TrendingRefresher(board, database, POLICY, path=path, interval_s=0.05, now=lambda: THEN)


def _served(board: CurrentTrending) -> list[str]:
    return [video.video_id for video in board.page(10).videos]


async def test_refresh_and_cold_start(database: Database, tmp_path: Path) -> None:
    """A ranking appears as soon as there is something to rank, follows what happens, and outlives the program."""
    path, board = tmp_path / "trending.json", CurrentTrending()
    refresher = _refresher(board, database, path)
    refresher.restore()
    async with background("trending", refresher.keep_fresh):
        await _add(database, "u1", "v1", "like")
        await until(lambda: _served(board) == ["v1"])
        await _add(database, "u1", "v2", "share")
        await until(lambda: _served(board) == ["v2", "v1"])
        await until(lambda: path.exists() and "v2" in path.read_text())
    after = CurrentTrending()
    _refresher(after, Database("postgresql://127.0.0.1:1/none"), path).restore()
    assert _served(after) == ["v2", "v1"]


async def test_rankings_take_a_tenth_of_a_core_at_most(database: Database, tmp_path: Path) -> None:
    """Their work grows with the interactions: Postgres is locked out of them for 0.2 s, so the next waits for 1.8 s."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0.001)

    await _add(database, "u1", "v1", "like")
    refresher = TrendingRefresher(
        CurrentTrending(), database, POLICY, path=tmp_path / "trending.json", interval_s=0.5, sleep=sleep
    )
    async with background("trending", refresher.keep_fresh):
        await until(lambda: len(waits) > 0)
        async with database.connection() as connection:
            await connection.execute("LOCK TABLE user_interactions IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(0.2)
        await until(lambda: max(waits) >= 9 * 0.19)
    assert min(waits) >= 0.5


async def test_last_ranking_survives_an_outage(own_postgres: Postgres, tmp_path: Path) -> None:
    database, board = Database(own_postgres.url("videowindow")), CurrentTrending()
    await database.open()
    refresher = _refresher(board, database, tmp_path / "trending.json")
    async with background("schema", database.keep_schema), background("trending", refresher.keep_fresh):
        await until(database.ready.is_set)
        await _add(database, "u1", "v1", "like")
        await until(lambda: _served(board) == ["v1"])
        assert own_postgres.child is not None
        own_postgres.child.kill()
        with pytest.raises(DatabaseUnavailableError):
            await refresher.refresh()
        assert _served(board) == ["v1"]
        own_postgres.start()
        await _add_when_back(database, "v2")
        await until(lambda: _served(board) == ["v2", "v1"], timeout_s=20)
    await database.close()


async def _add_when_back(database: Database, video: str) -> None:
    async def added() -> bool:
        try:
            await _add(database, "u1", video, "share")
        except Exception:  # noqa: BLE001  # the pool has yet to find the server
            return False
        return True

    deadline = asyncio.get_running_loop().time() + 20
    while not await added():
        assert asyncio.get_running_loop().time() < deadline


@pytest.mark.parametrize("content", ["", "{}", "nonsense"])
async def test_bad_snapshot_starts_empty(database: Database, tmp_path: Path, content: str) -> None:
    path, board = tmp_path / "trending.json", CurrentTrending()
    path.write_text(content)
    _refresher(board, database, path).restore()
    assert board.current is None


async def test_unwritable_snapshot_does_not_stop_the_ranking(database: Database, tmp_path: Path) -> None:
    board: Any = CurrentTrending()
    (tmp_path / "file").write_text("")
    await _add(database, "u1", "v1", "like")
    await _refresher(board, database, tmp_path / "file" / "trending.json").refresh()
    assert _served(board) == ["v1"]


async def test_rare_tags_are_ranked_deep(database: Database) -> None:
    """The best videos of each tag are in the ranking, however many others are more popular."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos (video_id, tags) SELECT 'v' || n, ARRAY['common'] FROM generate_series(1, 9) n"
            " UNION ALL SELECT 'rare' || n, ARRAY['rare', 'odd'] FROM generate_series(1, 4) n"
        )
    for number in range(1, 10):
        await _add(database, "u1", f"v{number}", "share")
    for number in range(1, 5):
        await _add(database, "u1", f"rare{number}", "watch", watch_ms=30_000 - number)
    trending = await compute_trending(database, replace(POLICY, most=3, most_of_tag=2), THEN)
    assert [video.ranked.video_id for video in trending.videos] == ["v1", "v2", "v3", "rare1", "rare2"]
    page = trending.page(5, video_filter=VideoFilter(any_tags=("rare", "odd")))
    assert [video.video_id for video in page.videos] == ["rare1", "rare2"]


async def test_surfaces_have_their_own_order(database: Database) -> None:
    """What was done on a surface, by the page that led to it, counts more there; elsewhere nothing changes."""
    await _add(database, "u1", "everywhere", "share")
    await _add(database, "u2", "everywhere", "like")
    async with database.connection() as connection:
        await connection.execute("TRUNCATE feed_cache")
        await connection.execute(
            "INSERT INTO feed_cache VALUES (now(), 's1', 1, 'u3', 'explore', '', '', '', '', '', '{}')"
        )
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, feed_session_id)"
            " VALUES ('u3', 'explored', 'like', %s, 's1'), ('u4', 'lost', 'like', %s, 's2')",
            [THEN, THEN],
        )
    trending = await compute_trending(database, POLICY, THEN)
    orders = {name: [one.ranked.video_id for one in trending.at(name).videos] for name in ("", "explore", "other")}
    plain = ["everywhere", "explored", "lost"]
    assert orders == {"": plain, "other": plain, "explore": ["explored", "everywhere", "lost"]}
    scores = [one.ranked.score for one in trending.at("explore").videos]
    assert scores == sorted(scores, reverse=True)


async def _store(database: Database, *rows: dict[str, Any]) -> None:
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


async def _fill(database: Database, videos: int) -> None:
    """Store a live feed: one like for each video, a second apart, up to now."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at)"
            " SELECT 'u1', 'v' || n, 'like', now() - n * interval '1 second' FROM generate_series(1, %s) n",
            [videos],
        )


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
    await _fill(database, 200)
    await _store(database, *HOSTILE_ROWS)
    policy = TrendingPolicy(half_life_s=half_life_s, unknown_videos=True)
    trending = await compute_trending(database, policy, THEN)
    ids = [video.ranked.video_id for video in trending.videos]
    assert {f"v{number}" for number in range(1, 201)} <= {*ids}
    assert not [one for one in ids if identifier_problem(one)]
    assert all(math.isfinite(video.ranked.score) for video in trending.videos)


async def test_bad_ids_are_counted_and_named_once(database: Database, dogstatsd: DogStatsdServer) -> None:
    metrics = connect_metrics(dogstatsd.host, dogstatsd.port, service="bridge")
    set_aside = SetAside("trending", metrics)
    await _store(database, {"video_id": "a\nb"}, {"video_id": ""}, {})
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            trending = await compute_trending(database, POLICY, THEN, set_aside)
            assert set_aside.report() == 2
    assert [video.ranked.video_id for video in trending.videos] == ["v1"]
    assert [(log["event"], log["count"], {*log["rows"]}) for log in logs] == [("rows.set_aside", 2, {"a\nb", ""})]
    metrics.close()
    tag = "job:trending"
    await until(lambda: sum(packet.values[0] for packet in dogstatsd.packets("feed.jobs.rows_set_aside", tag)) == 6)


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
    trending = await compute_trending(database, replace(POLICY, unknown_videos=True), THEN, set_aside)
    assert [video.ranked.video_id for video in trending.videos] == ["good"]
    assert trending.surface_scores == {}
    assert set_aside.report() == 4


@pytest.mark.parametrize("days", [-30, -8, 8, 30, 3000])
async def test_one_wrong_clock_leaves_the_ranking(database: Database, days: float) -> None:
    """A bridge whose clock is wrong stores an interaction: the window is that of Postgres, and all others stay."""
    await _fill(database, 500)
    await _store(database, {"video_id": "odd", "occurred_at": datetime.now(UTC) + timedelta(days=days)})
    scores = await _scores(database, TrendingPolicy(unknown_videos=True))
    assert len(scores) == 500 + (days > 0)
    assert ("odd" in scores) == (days > 0)


async def test_what_happens_in_the_future_counts_as_of_when_it_came(database: Database) -> None:
    """It decays from then on as all else does, and is gone with its window."""
    ahead, policy = datetime.now(UTC) + timedelta(days=30), replace(POLICY, enough=1)
    hours_ago = [datetime.now(UTC) - timedelta(hours=hours) for hours in (0, 1, 11)]
    await _store(
        database,
        *({"video_id": f"v{place}", "occurred_at": ahead, "recorded_at": at} for place, at in enumerate(hours_ago)),
    )
    scores = await _scores(database, policy)
    assert {video: round(score, 2) for video, score in scores.items()} == {"v0": 3.0, "v1": 1.5}


async def test_few_recent_videos_are_followed_by_those_of_the_last_window(database: Database) -> None:
    """One interaction with imported history, or after a quiet week, does not leave a feed of one video."""
    for video, hours in (("old", 0), ("older", 1), ("live", 2), ("gone", 11)):
        await _add(database, "u1", video, "share", hours=hours)
    await _store(database, {"video_id": "live", "interaction_type": "impression"})
    trending = await compute_trending(database, POLICY, THEN)
    assert [video.ranked.video_id for video in trending.videos] == ["live", "old", "older"]
    scores = [video.ranked.score for video in trending.videos]
    assert scores == sorted(scores, reverse=True)
    few = await compute_trending(database, replace(POLICY, enough=1), THEN)
    assert [video.ranked.video_id for video in few.videos] == ["live"]


async def test_only_what_the_catalogue_knows_trends(database: Database) -> None:
    """An id that nobody published does not, unless there is no catalogue or the policy says so."""
    strict = replace(POLICY, unknown_videos=False)
    await _store(database, {"video_id": "published"}, {"video_id": "made up", "interaction_type": "share"})
    assert {*await _scores(database, strict)} == {"published", "made up"}
    async with database.connection() as connection:
        await connection.execute("INSERT INTO videos (video_id) VALUES ('published'), ('other')")
    assert {*await _scores(database, strict)} == {"published"}
    assert {*await _scores(database, POLICY)} == {"published", "made up"}


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
        async with database.connection() as connection:
            await connection.execute("TRUNCATE user_interactions")
        await _store(database, *rows, {"video_id": "good"})
        trending = await compute_trending(database, replace(POLICY, half_life_s=half_life_s, window_s=6e5), THEN)
        assert "good" in {video.ranked.video_id for video in trending.videos}
        sent = _Sent()
        assert await Features(database, sent, interval_s=300).publish() >= 1
        assert all(0 <= value["watchTime7d"] <= 2**53 for value in sent.values)

    @settings(max_examples=40)
    @given(st.lists(ROWS, max_size=8), st.floats(1e-3, 1e9))
    def property_(rows: list[dict[str, Any]], half_life_s: float) -> None:
        asyncio.run_coroutine_threadsafe(check(rows, half_life_s), loop).result(timeout=60)

    await asyncio.to_thread(property_)

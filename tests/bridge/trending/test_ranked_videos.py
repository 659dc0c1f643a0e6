"""What is ranked, and how high."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.domain.page import VideoFilter
from bridge.postgres.pool import Database
from bridge.trending.roller import CountingPolicy
from tests.bridge.support.trending import COUNTING, POLICY, THEN, Ranked, add, fill, store


async def test_empty_table(database: Database) -> None:
    assert await Ranked(database=database).scores() == {}


async def test_decay_of_history_is_relative_to_its_newest_event(database: Database) -> None:
    """Each half-life halves; what is old goes last; equal scores go by id."""
    for video, hours in (("now", 0), ("now2", 0), ("old", 1), ("older", 2), ("oldest", 10)):
        await add(database, "u1", video, "like", hours=hours)
    scores = await Ranked(database=database).scores()
    assert scores == {"now": 3.0, "now2": 3.0, "old": 1.5, "older": 0.75, "oldest": round(3 / 1024, 6)}
    assert list(scores) == ["now", "now2", "old", "older", "oldest"]


async def test_each_user_counts_once(database: Database) -> None:
    for _ in range(50):
        await add(database, "bot", "pushed", "share")
    await add(database, "u1", "loved", "share")
    await add(database, "u2", "loved", "share")
    assert await Ranked(database=database).scores() == {"loved": 8.0, "pushed": 4.0}


async def test_watching_counts_by_completion(database: Database) -> None:
    """Of the video's length where the catalogue has it, else of half a minute; more than all of it is all of it."""
    async with database.connection() as connection:
        await connection.execute("INSERT INTO videos (video_id, duration_ms) VALUES ('long', 60000), ('zero', 0)")
    await add(database, "u1", "long", "watch", watch_ms=15_000)
    await add(database, "u1", "unknown", "watch", watch_ms=15_000)
    await add(database, "u1", "zero", "watch", watch_ms=24_000)
    await add(database, "u1", "again", "watch", watch_ms=10_000_000)
    assert await Ranked(database=database).scores() == {"again": 1.0, "zero": 0.8, "unknown": 0.5, "long": 0.25}


async def test_dislikes_count_against(database: Database) -> None:
    await add(database, "u1", "divisive", "like")
    await add(database, "u2", "divisive", "hide")
    await add(database, "u1", "bad", "hide")
    await add(database, "u1", "rated", "rating", rating=5)
    await add(database, "u1", "panned", "rating", rating=1)
    assert await Ranked(database=database).scores() == {"rated": 3.0, "divisive": 1.0, "panned": 0.6}


async def test_top_n_with_the_catalogue(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos VALUES"
            " ('v1', 'a', '{x,y}', 5, '2022-04-01T00:00:00.000001Z'), ('v2', NULL, '{}', NULL, NULL)"
        )
    for video, likes in (("v1", 3), ("v2", 2), ("v3", 1), ("v4", 0)):
        for user in range(likes + 1):
            await add(database, f"u{user}", video, "like")
    trending = await Ranked(database=database, policy=replace(POLICY, most=3)).trending()
    first, second, third = trending.videos
    assert [video.ranked.video_id for video in trending.videos] == ["v1", "v2", "v3"]
    assert (first.author_id, first.tags, first.duration_ms) == ("a", ("x", "y"), 5)
    assert first.published_at_us == int(datetime(2022, 4, 1, tzinfo=UTC).timestamp()) * 10**6 + 1
    assert (second.author_id, second.tags, second.duration_ms, second.published_at_us) == ("", (), None, None)
    assert (third.author_id, third.tags) == ("", ())


async def test_rare_tags_are_ranked_deep(database: Database) -> None:
    """The best videos of each tag are in the ranking, however many others are more popular."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO videos (video_id, tags) SELECT 'v' || n, ARRAY['common'] FROM generate_series(1, 9) n"
            " UNION ALL SELECT 'rare' || n, ARRAY['rare', 'odd'] FROM generate_series(1, 4) n"
        )
    for number in range(1, 10):
        await add(database, "u1", f"v{number}", "share")
    for number in range(1, 5):
        await add(database, "u1", f"rare{number}", "watch", watch_ms=30_000 - number)
    policy = replace(POLICY, most=3, most_of_tag=2)
    trending = await Ranked(database=database, policy=policy).trending()
    assert [video.ranked.video_id for video in trending.videos] == ["v1", "v2", "v3", "rare1", "rare2"]
    page = trending.page(5, video_filter=VideoFilter(any_tags=("rare", "odd")))
    assert [video.video_id for video in page.videos] == ["rare1", "rare2"]


async def test_surfaces_have_their_own_order(database: Database) -> None:
    """What was done on a surface, by the page that led to it, counts more there; elsewhere nothing changes."""
    await add(database, "u1", "everywhere", "share")
    await add(database, "u2", "everywhere", "like")
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
    trending = await Ranked(database=database).trending()
    orders = {name: [one.ranked.video_id for one in trending.at(name).videos] for name in ("", "explore", "other")}
    plain = ["everywhere", "explored", "lost"]
    assert orders == {"": plain, "other": plain, "explore": ["explored", "everywhere", "lost"]}
    scores = [one.ranked.score for one in trending.at("explore").videos]
    assert scores == sorted(scores, reverse=True)


WEEK = CountingPolicy(window_h=168, half_life_s=86_400, enough=500)


@pytest.mark.parametrize("days", [-30, -8, 8, 30, 3000])
async def test_one_wrong_clock_leaves_the_ranking(database: Database, days: float) -> None:
    """A bridge whose clock is wrong stores an interaction: the hours are those of Postgres, and all others stay."""
    await fill(database, 500)
    await store(database, {"video_id": "odd", "occurred_at": datetime.now(UTC) + timedelta(days=days)})
    ids = await Ranked(database=database, counting=WEEK).ids()
    assert len(ids) == 500 + (days > -14)
    assert "odd" not in ids[:500] or days > 0


async def test_what_happens_in_the_future_counts_as_of_when_it_came(database: Database) -> None:
    """It decays from then on as all else does."""
    ahead, now = datetime.now(UTC) + timedelta(days=30), datetime.now(UTC)
    came = [now - timedelta(hours=hours) for hours in (0, 1, 11)]
    await store(
        database,
        *({"video_id": f"v{place}", "occurred_at": ahead, "recorded_at": at} for place, at in enumerate(came)),
    )
    assert await Ranked(database=database).scores() == {"v0": 3.0, "v1": 1.5, "v2": round(3 / 2**11, 6)}


async def test_few_recent_videos_are_followed_by_older_ones(database: Database) -> None:
    """One interaction with imported history, or after a quiet week, does not leave a feed of one video."""
    for video, hours in (("old", 0), ("older", 1), ("live", 2), ("oldest", 11)):
        await add(database, "u1", video, "share", hours=hours)
    await store(database, {"video_id": "live", "interaction_type": "impression"})
    counting = CountingPolicy(window_h=168, half_life_s=86_400, enough=500)
    trending = await Ranked(database=database, counting=counting).trending()
    assert [video.ranked.video_id for video in trending.videos] == ["live", "old", "older", "oldest"]
    scores = [video.ranked.score for video in trending.videos]
    assert scores == sorted(scores, reverse=True)


async def test_old_videos_go_when_enough_others_trend(database: Database) -> None:
    """Counts from two windows before the last of enough videos are dropped, and with them the scores."""
    await add(database, "u1", "old", "share")
    await fill(database, 20)
    few = replace(COUNTING, enough=21)
    assert (await Ranked(database=database, counting=few).ids())[-1] == "old"
    enough = await Ranked(database=database, counting=replace(COUNTING, enough=20)).ids()
    assert sorted(enough) == sorted(f"v{number}" for number in range(1, 21))


async def test_only_what_the_catalogue_knows_trends(database: Database) -> None:
    """An id that nobody published does not, unless there is no catalogue or the policy says so."""
    strict = Ranked(database=database, policy=replace(POLICY, unknown_videos=False))
    await store(database, {"video_id": "published"}, {"video_id": "made up", "interaction_type": "share"})
    assert {*await strict.ids()} == {"published", "made up"}
    async with database.connection() as connection:
        await connection.execute("INSERT INTO videos (video_id) VALUES ('published'), ('other')")
    assert {*await strict.ids()} == {"published"}
    assert {*await Ranked(database=database).ids()} == {"published", "made up"}


async def test_made_up_surfaces_hide_none_on_which_more_is_done(database: Database) -> None:
    """Callers name surfaces as they like, also thousands before all others by their names."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO feed_cache (created_at, feed_session_id, page, user_id, surface, served_by, fallback_reason,"
            " algorithm, model_version, experiment_variant_id, video_ids)"
            " SELECT now(), 's' || n, 1, 'u', CASE n WHEN 0 THEN 'home' ELSE '!' || n END, '', '', '', '', '', '{}'"
            " FROM generate_series(0, 1000) AS n"
        )
        await connection.execute(
            "INSERT INTO user_interactions (user_id, video_id, interaction_type, occurred_at, feed_session_id)"
            " SELECT 'u' || n, 'v1', 'like', now(), 's' || greatest(0, n) FROM generate_series(-2, 1000) AS n"
        )
    trending = await Ranked(database=database).trending()
    assert len(trending.surface_scores) == POLICY.surfaces
    assert {surface: round(scores["v1"]) for surface, scores in trending.surface_scores.items()}["home"] == 9

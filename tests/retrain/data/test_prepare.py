"""From exported rows to numbers, by the real SQL."""

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.data.prepare import LONG_WATCH_MS, MAX_WEIGHT
from tests.retrain.support.feeds import DAY, at, row
from tests.retrain.support.prepared import END, HALF_LIFE, aged, named, prepared, weights


@pytest.mark.parametrize(
    ("duration_ms", "watch_ms", "completion"),
    [
        (10_000, 5_000, 0.5),
        (10_000, 60_000, 1.0),
        (600_000, 9_000, 0.5),
        (600_000, LONG_WATCH_MS, 1.0),
        (None, 9_000, 0.5),
        (0, 9_000, 0.5),
    ],
)
def test_watch_weighs_by_completion(duration_ms: int | None, watch_ms: int, completion: float) -> None:
    videos = [{"videoId": "v", "durationMs": duration_ms}]
    with prepared([row("u", "v", watch_ms=watch_ms)], videos=videos) as interactions:
        assert weights(interactions)["u", "v"] == pytest.approx(aged(0.3 + 0.7 * completion, 12))
        assert bool(len(interactions.targets(DAY, END))) == (completion == 1.0)


@pytest.mark.parametrize("kind", ["unlike", "hide"])
def test_what_is_taken_back_is_no_positive_until_it_is_liked_again(kind: str) -> None:
    rows = [row("u", "v", "like", time=at(1)), row("u", "w", "like", time=at(1)), row("u", "v", kind, time=at(2))]
    with prepared(rows) as interactions:
        assert set(weights(interactions)) == {("u", "w")}
    with prepared([*rows, row("u", "v", "like", time=at(3))]) as interactions:
        assert weights(interactions)["u", "v"] == aged(1.0, 21)


def test_weight_is_bounded() -> None:
    rows = [row("u", "v", "share", time=at(23 + second / 3600)) for second in range(20)]
    with prepared(rows) as interactions:
        assert weights(interactions) == {("u", "v"): MAX_WEIGHT}


def test_every_exposure_counts_as_seen_also_of_users_who_liked_nothing() -> None:
    rows = [row("a", "v", "impression", 0), row("b", "w", "hide", 0), row("c", "x", "skip", 0)]
    with prepared(rows) as interactions:
        seen = interactions.seen(END)
        assert [interactions.videos().ids(seen[user]) for user in range(3)] == [["v"], ["w"], ["x"]]
        assert len(interactions.positives(END, half_life=HALF_LIFE)) == 0
        assert interactions.seen(DAY).lengths().tolist() == [0, 0, 0]


def test_targets_leave_out_what_was_seen_before() -> None:
    rows = [
        row("u", "old", "impression", 0, at(1)),
        row("u", "old", "like", 0, at(13)),
        row("u", "new", "like", 0, at(13)),
        row("u", "past", "like", 0, at(13)),
        row("u", "bare", "impression", 0, at(13)),
    ]
    past = [{"userId": "u", "lastWatchedAt": DAY - HALF_LIFE, "watched": ["past"], "liked": [], "longWatched": []}]
    with prepared(rows, history=past) as interactions:
        assert named(interactions, interactions.targets(DAY + timedelta(hours=12), END)) == [("u", "new")]


def test_targets_hold_what_was_only_watched_where_that_is_asked_for() -> None:
    rows = [row("u", "liked", "like", 0), row("u", "watched", "watch", 100), row("u", "shown", "impression", 100)]
    with prepared(rows) as interactions:
        assert named(interactions, interactions.targets(DAY, END)) == [("u", "liked")]
        both = named(interactions, interactions.targets(DAY, END, watched=True))
        assert both == [("u", "liked"), ("u", "watched")]


def test_tastes_halve_with_what_was_liked_since_and_end() -> None:
    rows = [row("u", f"v{number:02}", "like", 0, at(number / 2)) for number in range(20)]
    rows += [row("u", "v00", "like", 0, at(11)), row("w", "v05", "like", 0, at(3)), row("w", "v06", "impression", 0)]
    with prepared(rows) as interactions:
        tastes = interactions.tastes(END, half_life=timedelta(days=10_000), half_life_places=2)
        found = dict(zip(named(interactions, tastes.pairs), tastes.weights.tolist(), strict=True))
        newest = ["v00", *(f"v{number:02}" for number in range(19, 8, -1))]
        assert {video for user, video in found if user == "u"} == set(newest)
        assert found["u", "v00"] == pytest.approx(2.0, abs=0.01)
        for place, video in enumerate(newest[1:], 1):
            assert found["u", video] == pytest.approx(0.5 ** (place / 2), abs=0.01)
        assert found["w", "v05"] == pytest.approx(1.0, abs=0.01)


def test_tastes_know_the_order_of_the_history_and_forget_what_was_taken_back() -> None:
    past = [
        {"userId": "u", "lastWatchedAt": DAY, "watched": ["b", "c", "a"], "liked": [], "longWatched": ["a", "b", "c"]}
    ]
    with prepared([row("u", "c", "hide", 0), row("u", "d")], history=past) as interactions:
        tastes = interactions.tastes(END, half_life=timedelta(days=10_000), half_life_places=1)
        found = dict(zip(named(interactions, tastes.pairs), tastes.weights.tolist(), strict=True))
        assert found == pytest.approx({("u", "d"): 1.0, ("u", "a"): 0.25, ("u", "b"): 0.125}, abs=1e-3)


def test_history_counts_as_seen_and_its_best_word_counts_as_liking() -> None:
    past: list[dict[str, Any]] = [
        {
            "userId": "h",
            "lastWatchedAt": DAY,
            "watched": ["a", "a", "b", "c"],
            "liked": ["c"],
            "longWatched": ["b", "c"],
        },
        {"userId": "n", "lastWatchedAt": None, "watched": ["a"], "liked": None, "longWatched": []},
    ]
    with prepared([row("u", "v")], history=past) as interactions:
        assert interactions.counts.past_events == 4
        found = weights(interactions)
        expected = {
            ("h", "a"): aged(0.15, 24),
            ("h", "b"): aged(0.5, 24),
            ("h", "c"): aged(1.0, 24),
            ("n", "a"): aged(0.15, 24),
        }
        assert {pair: weight for pair, weight in found.items() if pair[0] != "u"} == pytest.approx(expected)
        assert interactions.videos().ids(interactions.seen(END)[0]) == ["a", "b", "c"]


def test_fresh_is_what_was_liked_within_a_time_be_it_in_a_history() -> None:
    past = [
        {"userId": user, "lastWatchedAt": last, "watched": ["a"], "liked": [], "longWatched": []}
        for user, last in (("old", DAY - timedelta(hours=1)), ("late", DAY + timedelta(hours=1)), ("undated", None))
    ]
    rows = [row("u", "b", "like", 0), row("u", "c", "hide", 0), row("u", "d", "like", 0, at(23))]
    with prepared(rows, history=past) as interactions:
        found = interactions.fresh(DAY, DAY + timedelta(hours=20))
        assert named(interactions, found) == [("late", "a"), ("u", "b")]


def test_popularity_halves_with_age() -> None:
    rows = [row("u", "v", "like", 0, at(0)), row("w", "v", "like", 0, at(23)), row("u", "x", "impression", 0)]
    with prepared(rows) as interactions:
        popularity = interactions.popularity(END, half_life=timedelta(hours=12))
        assert popularity.tolist() == pytest.approx([0.25 + 0.5 ** (1 / 12), 0.0])


def test_catalogue_rows_follow_the_videos_and_hold_those_never_shown() -> None:
    videos: list[dict[str, Any]] = [
        {"videoId": "b", "authorId": "z", "tags": ["t", "s", "t", ""], "durationMs": 5, "uploadDate": "2026-02-28"},
        {"videoId": "c", "authorId": "y", "tags": [], "durationMs": -5, "uploadDate": "someday"},
        {"videoId": "c", "authorId": "y", "tags": [], "durationMs": -5, "uploadDate": "someday"},
        {"videoId": "d", "authorId": "", "tags": None, "durationMs": None, "uploadDate": None},
        {"videoId": "", "authorId": "x", "tags": None, "durationMs": None, "uploadDate": None},
    ]
    with prepared([row("u", "a"), row("u", "b")], videos=videos) as interactions:
        catalogue = interactions.catalogue()
        assert interactions.videos().array.tolist() == [b"a", b"b", b"c", b"d"]
        assert catalogue.author_rows.tolist() == [-1, 1, 0, -1]
        assert catalogue.authors.array.tolist() == [b"y", b"z"]
        assert [catalogue.tags.ids(catalogue.tag_rows[video]) for video in range(4)] == [[], ["s", "t"], [], []]
        assert catalogue.durations_ms.tolist() == [-1, 5, -1, -1]
        assert catalogue.published_at_ms.tolist() == [-1, round((DAY - HALF_LIFE).timestamp() * 1000), -1, -1]


KINDS = {"impression": 0.0, "watch": 1.0, "like": 1.0, "share": 1.0, "search": 0.5, "skip": 0.0}


EVENTS = st.lists(
    st.tuples(st.sampled_from("abß"), st.sampled_from("vwxyz"), st.sampled_from(sorted(KINDS)), st.integers(0, 23)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=25)
@given(EVENTS)
def test_numbers_equal_a_plain_count(events: list[tuple[str, str, str, int]]) -> None:
    """SQL and a loop over the rows give the same weights, popularity and seen lists."""
    rows = [row(user, video, kind, LONG_WATCH_MS, at(hour)) for user, video, kind, hour in events]
    expected: dict[tuple[str, str], float] = {}
    for user, video, kind, hour in set(events):
        value = KINDS[kind] * 0.5 ** ((24 - hour) / 24)
        expected[user, video] = expected.get((user, video), 0.0) + value
    with prepared(rows) as interactions:
        liked = {pair: min(MAX_WEIGHT, weight) for pair, weight in expected.items() if weight}
        assert weights(interactions) == pytest.approx(liked, abs=2e-6)
        popularity = interactions.popularity(END, half_life=HALF_LIFE)
        for number, video in enumerate(interactions.videos().ids(np.arange(len(popularity)))):
            total = math.fsum(weight for pair, weight in expected.items() if pair[1] == video)
            assert popularity[number] == pytest.approx(total, abs=2e-6)
        assert interactions.users().array.tolist() == sorted({user.encode() for user, _ in expected})
        seen = interactions.seen(END)
        for number, user in enumerate(interactions.users().ids(np.arange(len(seen)))):
            assert interactions.videos().ids(seen[number]) == sorted(pair[1] for pair in expected if pair[0] == user)

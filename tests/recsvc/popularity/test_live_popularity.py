from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.id_map import UNKNOWN, IdMap
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import COLD
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.popularity import live_popularity as freshness_module
from recsvc.popularity.hourly_counts import HourlyCounts
from recsvc.popularity.live_popularity import HOUR_MS, MAX_DECAY, MAX_HOURS, LivePopularity
from recsvc.users.kafka_message import UserInteraction
from tests.recsvc.support.audiences import CUT_OFF_MS
from tests.recsvc.support.models import random_model
from tests.support.polling import wait_for

DAY_MS = 24 * HOUR_MS
LATER = CUT_OFF_MS + 10 * DAY_MS
SERVING = ServingModel.of(random_model(1))


def live_of(serving: ServingModel = SERVING) -> LiveModel:
    live = LiveModel(retry_after_s=1)
    live.swap(serving)
    return live


def likes(at_ms: int, *names: str, kind: InteractionType = InteractionType.LIKE) -> list[UserInteraction]:
    return [UserInteraction(user_id="u", interaction=Interaction(name, kind, at_ms)) for name in names]


def popularity(freshness: LivePopularity, name: str, serving: ServingModel = SERVING) -> float:
    return float(freshness.popularity(serving)[serving.model.videos.row(name)])


def test_an_interaction_counts_as_training_would_count_it() -> None:
    freshness = LivePopularity(live_of(), interval_s=60)
    before = popularity(freshness, "v1")

    freshness.count(likes(CUT_OFF_MS, "v1", "v1", "unknown"), now_ms=LATER)
    freshness.count(likes(CUT_OFF_MS, "v1", kind=InteractionType.IMPRESSION), now_ms=LATER)

    assert popularity(freshness, "v1") == pytest.approx(before + 2, rel=0.001)


def test_all_is_decayed_to_the_newest_interaction() -> None:
    """By half each day, of the model's own popularity and of what came since; an hour is the grain."""
    freshness = LivePopularity(live_of(), interval_s=60)
    own = {name: popularity(freshness, name) for name in ("v1", "v2", "v3")}

    freshness.count(likes(CUT_OFF_MS, "v1"), now_ms=LATER)
    freshness.count(likes(CUT_OFF_MS + DAY_MS, "v2"), now_ms=LATER)

    assert popularity(freshness, "v1") == pytest.approx(own["v1"] / 2 + 0.5, abs=0.02)
    assert popularity(freshness, "v2") == pytest.approx(own["v2"] / 2 + 1, abs=0.02)
    assert popularity(freshness, "v3") == pytest.approx(own["v3"] / 2, abs=0.02)


def test_a_model_says_its_own_half_life() -> None:
    manifest = SERVING.manifest.model_copy(update={"popularity_half_life_s": 2 * 86_400.0})
    slow = ServingModel.of(replace(SERVING.model, manifest=manifest))
    freshness = LivePopularity(live_of(slow), interval_s=60)
    own = popularity(freshness, "v3", slow)
    freshness.count(likes(CUT_OFF_MS + 2 * DAY_MS, "v2"), now_ms=LATER)

    assert popularity(freshness, "v3", slow) == pytest.approx(own / 2)


def test_an_old_model_does_not_lose_its_order_by_one_click() -> None:
    freshness = LivePopularity(live_of(), interval_s=60)
    freshness.count(likes(CUT_OFF_MS + 1000 * DAY_MS, "v2"), now_ms=CUT_OFF_MS + 1000 * DAY_MS)

    own = SERVING.model.popularity
    expected = own * np.float32(MAX_DECAY)
    expected[SERVING.model.videos.row("v2")] += 1
    assert freshness.popularity(SERVING) == pytest.approx(expected, abs=0.02)


def test_a_time_in_the_future_is_now() -> None:
    freshness = LivePopularity(live_of(), interval_s=60)
    own = popularity(freshness, "v3")
    freshness.count(likes(CUT_OFF_MS + 10 * DAY_MS, "v2"), now_ms=CUT_OFF_MS)

    assert popularity(freshness, "v3") == own


def test_what_the_next_model_was_trained_on_is_not_counted_again() -> None:
    freshness = LivePopularity(live_of(), interval_s=60)
    freshness.count(likes(CUT_OFF_MS + HOUR_MS, "v1"), now_ms=LATER)
    until = SERVING.manifest.data_until.replace(day=SERVING.manifest.data_until.day + 1)
    trained = ServingModel.of(
        replace(SERVING.model, manifest=SERVING.manifest.model_copy(update={"data_until": until}))
    )

    assert freshness.popularity(trained).tolist() == SERVING.model.popularity.tolist()


def test_memory_is_bounded_by_videos_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest hours go first; the newest stays, however much it holds."""
    monkeypatch.setattr(freshness_module, "MAX_SUMS", 30)
    freshness = LivePopularity(live_of(), interval_s=60)
    for hour in range(5):
        freshness.count(likes(CUT_OFF_MS + hour * HOUR_MS, *(f"v{number}" for number in range(12))), now_ms=LATER)
    assert sorted(freshness._hours) == [(CUT_OFF_MS // HOUR_MS) + hour for hour in (3, 4)]

    freshness.count(likes(CUT_OFF_MS + 5 * HOUR_MS, *(f"v{number}" for number in range(99))), now_ms=LATER)
    assert list(freshness._hours) == [(CUT_OFF_MS // HOUR_MS) + 5]


@given(
    st.lists(st.tuples(st.sampled_from(["v1", "v2", "v33", "unknown", "é" * 40]), st.integers(1, 5)), max_size=30),
    st.integers(0, 30),
)
def test_an_hour_sums_by_video_whenever_it_is_asked(done: list[tuple[str, int]], asked_after: int) -> None:
    hour, videos = HourlyCounts(), SERVING.model.videos
    for number, (name, worth) in enumerate(done):
        if number == asked_after:
            hour.of(videos)
        hour.add(name, worth)

    rows, sums = hour.of(videos)

    expected = Counter[str]()
    for name, worth in done:
        expected[name] += worth
    known = {name: worth for name, worth in expected.items() if videos.row(name) != UNKNOWN}
    assert dict(zip(videos.ids(rows), sums.tolist(), strict=True)) == known
    assert len(hour) == len(expected)
    other = IdMap.build(["unknown"])
    assert hour.of(other)[1].tolist() == ([float(expected["unknown"])] if expected["unknown"] else [])


def test_old_hours_are_dropped() -> None:
    freshness = LivePopularity(live_of(), interval_s=60)
    for hour in range(2 * MAX_HOURS):
        freshness.count(likes(CUT_OFF_MS + hour * HOUR_MS, "v1"), now_ms=LATER + DAY_MS * 30)

    assert len(freshness._hours) == MAX_HOURS


def test_a_refreshed_model_ranks_by_it_and_shares_the_rest() -> None:
    live = live_of()
    freshness = LivePopularity(live, interval_s=60)
    assert not freshness.refresh(), "there is nothing new"

    freshness.count(likes(CUT_OFF_MS, *["v33"] * 10_000), now_ms=LATER)
    assert freshness.refresh()
    assert not freshness.refresh(), "nothing came since"

    fresh = live.get()
    row = SERVING.model.videos.row("v33")
    gained = fresh.ranker.scores(COLD) - SERVING.ranker.scores(COLD)
    weight, floor = SERVING.manifest.popularity_weight, SERVING.manifest.popularity_floor
    own = float(SERVING.model.popularity[row])
    assert gained[row] == pytest.approx(weight * np.log((own + 10_000 + floor) / (own + floor)), rel=1e-3)
    assert np.abs(np.delete(gained, row)).max() < 0.01
    assert fresh.model is SERVING.model
    assert fresh.fold_in is SERVING.fold_in


def test_a_model_that_goes_live_meanwhile_is_not_overwritten() -> None:
    live = live_of()
    other = ServingModel.of(random_model(2))
    live.swap(other)

    assert not live.exchange(SERVING, SERVING.with_popularity(SERVING.model.popularity))
    assert live.get() is other


def test_a_defect_ends_one_refreshment_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    live, failed = live_of(), list[bool]()
    refresh = LivePopularity.refresh

    def fail_once(freshness: LivePopularity) -> bool:
        if not failed:
            failed.append(True)
            raise RuntimeError("defect")
        return refresh(freshness)

    monkeypatch.setattr(LivePopularity, "refresh", fail_once)
    freshness = LivePopularity(live, interval_s=0.01)
    freshness.count(likes(CUT_OFF_MS, "v1"), now_ms=LATER)
    freshness.start()
    try:
        wait_for(lambda: live.get() is not SERVING, what="a fresh prior")
    finally:
        freshness.stop()

    assert failed

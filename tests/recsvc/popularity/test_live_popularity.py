from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.id_map import UNKNOWN, IdMap
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import COLD
from recsvc.live_state.environment import COUNTS
from recsvc.live_state.keys import HOUR_MS, real, within_hour
from recsvc.live_state.profile import DamagedError
from recsvc.live_state.store import LiveStore, StoreError
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.popularity import live_popularity as freshness_module
from recsvc.popularity.hourly_counts import HourlyCounts
from recsvc.popularity.live_popularity import MAX_DECAY, MAX_HOURS, LivePopularity
from tests.recsvc.support.directories import CUT_OFF_MS
from tests.recsvc.support.models import random_model
from tests.recsvc.support.stores import count, prepared
from tests.support.polling import wait_for

DAY_MS = 24 * HOUR_MS
LATER = CUT_OFF_MS + 10 * DAY_MS
CUT_OFF_HOUR = CUT_OFF_MS // HOUR_MS
SERVING = ServingModel.of(random_model(1))


@pytest.fixture
def store(tmp_path: Path) -> LiveStore:
    return prepared(tmp_path)


def live_of(serving: ServingModel = SERVING) -> LiveModel:
    live = LiveModel(retry_after_s=1)
    live.swap(serving)
    return live


def fresh(
    store: LiveStore, live: LiveModel | None = None, now_ms: int = LATER, interval_s: float = 60
) -> LivePopularity:
    return LivePopularity(live or live_of(), store, interval_s=interval_s, now_ms=lambda: now_ms)


def likes(at_ms: int, *names: str, kind: InteractionType = InteractionType.LIKE) -> list[Interaction]:
    return [Interaction(name, kind, at_ms) for name in names]


def popularity(freshness: LivePopularity, name: str, serving: ServingModel = SERVING) -> float:
    return float(freshness.popularity(serving)[serving.model.videos.row(name)])


def test_an_interaction_counts_as_training_would_count_it(store: LiveStore) -> None:
    freshness = fresh(store)
    before = popularity(freshness, "v1")

    count(store, likes(CUT_OFF_MS, "v1", "v1", "unknown"))
    count(store, likes(CUT_OFF_MS, "v1", kind=InteractionType.IMPRESSION))

    assert popularity(freshness, "v1") == pytest.approx(before + 2, rel=0.001)


def test_all_is_decayed_to_the_newest_interaction(store: LiveStore) -> None:
    """By half each day, of the model's own popularity and of what came since; an hour is the grain."""
    freshness = fresh(store)
    own = {name: popularity(freshness, name) for name in ("v1", "v2", "v3")}

    count(store, likes(CUT_OFF_MS, "v1"))
    count(store, likes(CUT_OFF_MS + DAY_MS, "v2"))

    assert popularity(freshness, "v1") == pytest.approx(own["v1"] / 2 + 0.5, abs=0.02)
    assert popularity(freshness, "v2") == pytest.approx(own["v2"] / 2 + 1, abs=0.02)
    assert popularity(freshness, "v3") == pytest.approx(own["v3"] / 2, abs=0.02)


def test_a_model_says_its_own_half_life(store: LiveStore) -> None:
    manifest = SERVING.manifest.model_copy(update={"popularity_half_life_s": 2 * 86_400.0})
    slow = ServingModel.of(replace(SERVING.model, manifest=manifest))
    freshness = fresh(store, live_of(slow))
    own = popularity(freshness, "v3", slow)
    count(store, likes(CUT_OFF_MS + 2 * DAY_MS, "v2"))

    assert popularity(freshness, "v3", slow) == pytest.approx(own / 2)


def test_an_old_model_does_not_lose_its_order_by_one_click(store: LiveStore) -> None:
    freshness = fresh(store, now_ms=CUT_OFF_MS + 1000 * DAY_MS)
    count(store, likes(CUT_OFF_MS + 1000 * DAY_MS, "v2"))

    own = SERVING.model.popularity
    expected = own * np.float32(MAX_DECAY)
    expected[SERVING.model.videos.row("v2")] += 1
    assert freshness.popularity(SERVING) == pytest.approx(expected, abs=0.02)


def test_a_time_in_the_future_is_now(store: LiveStore) -> None:
    """As where this machine's clock was set back."""
    freshness = fresh(store, now_ms=CUT_OFF_MS)
    own = popularity(freshness, "v3")
    count(store, likes(CUT_OFF_MS + 10 * DAY_MS, "v2"))

    assert popularity(freshness, "v3") == own


def test_what_the_next_model_was_trained_on_is_not_counted_again(store: LiveStore) -> None:
    freshness = fresh(store)
    count(store, likes(CUT_OFF_MS + HOUR_MS, "v1"))
    until = SERVING.manifest.data_until.replace(day=SERVING.manifest.data_until.day + 1)
    trained = ServingModel.of(
        replace(SERVING.model, manifest=SERVING.manifest.model_copy(update={"data_until": until}))
    )

    assert freshness.popularity(trained).tolist() == SERVING.model.popularity.tolist()


def test_memory_is_bounded_by_videos_as_well(store: LiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest hours go first; the newest stays, however much it holds."""
    monkeypatch.setattr(freshness_module, "MAX_SUMS", 30)
    freshness = fresh(store)
    for hour in range(5):
        count(store, likes(CUT_OFF_MS + hour * HOUR_MS, *(f"v{number}" for number in range(12))))
    freshness.refresh()
    assert sorted(freshness._hours) == [CUT_OFF_HOUR + hour for hour in (3, 4)]

    count(store, likes(CUT_OFF_MS + 5 * HOUR_MS, *(f"v{number}" for number in range(60))))
    freshness.refresh()
    assert list(freshness._hours) == [CUT_OFF_HOUR + 5]


def test_a_video_takes_eight_bytes_an_hour(store: LiveStore) -> None:
    freshness = fresh(store)
    count(store, likes(CUT_OFF_MS, *(f"v{number}" for number in range(60)), *(f"x{number}" for number in range(999))))

    freshness.refresh()

    (hour,) = freshness._hours.values()
    assert hour.rows.nbytes + hour.sums.nbytes == 60 * 8


@given(st.dictionaries(st.sampled_from(["v1", "v2", "v33", "unknown", "é" * 40]), st.integers(1, 5)))
def test_an_hour_is_told_by_the_rows_of_a_model(done: dict[str, int]) -> None:
    videos = SERVING.model.videos
    names, sums = [name.encode() for name in done], [float(worth) for worth in done.values()]

    hour, other = (HourlyCounts.of(1, names, sums, known) for known in (videos, IdMap.build(["unknown"])))

    known = {name: worth for name, worth in done.items() if videos.row(name) != UNKNOWN}
    assert dict(zip(videos.ids(hour.rows), hour.sums.tolist(), strict=True)) == known
    assert other.sums.tolist() == ([done["unknown"]] if "unknown" in done else [])


def test_old_hours_are_dropped(store: LiveStore) -> None:
    freshness = fresh(store, now_ms=LATER + DAY_MS * 30)
    with store.writing() as batch:
        batch.count({(CUT_OFF_HOUR + hour, "v1"): 1.0 for hour in range(2 * MAX_HOURS)})

    freshness.refresh()

    assert sorted(freshness._hours) == [CUT_OFF_HOUR + hour for hour in range(MAX_HOURS, 2 * MAX_HOURS)]


def test_only_the_hours_that_changed_are_read(store: LiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them for the next model, whose rows are others."""
    live, read = live_of(), Counter[int]()
    counts = store.counts

    def noted(hour: int) -> tuple[list[bytes], list[float]]:
        read[hour - CUT_OFF_HOUR] += 1
        return counts(hour)

    monkeypatch.setattr(store, "counts", noted)
    freshness = fresh(store, live)
    for hour in (-5, 0, 1, 2):  # the first of which the model knows
        count(store, likes(CUT_OFF_MS + hour * HOUR_MS, "v1"))
    assert freshness.refresh()
    assert read == {0: 1, 1: 1, 2: 1}

    count(store, likes(CUT_OFF_MS + HOUR_MS, "v2"))
    assert freshness.refresh()
    assert read == {0: 1, 1: 2, 2: 1}

    live.swap(ServingModel.of(random_model(2)))
    assert freshness.refresh()
    assert read == {0: 2, 1: 3, 2: 2}


def test_a_refreshed_model_ranks_by_it_and_shares_the_rest(store: LiveStore) -> None:
    live = live_of()
    freshness = fresh(store, live)
    assert not freshness.refresh(), "there is nothing new"

    with store.writing() as batch:
        batch.count({(CUT_OFF_HOUR, "v33"): 10_000.0})
    assert freshness.refresh()
    assert not freshness.refresh(), "nothing came since"

    later = live.get()
    row = SERVING.model.videos.row("v33")
    gained = later.ranker.scores(COLD) - SERVING.ranker.scores(COLD)
    weight, floor = SERVING.manifest.popularity_weight, SERVING.manifest.popularity_floor
    own = float(SERVING.model.popularity[row])
    assert gained[row] == pytest.approx(weight * np.log((own + 10_000 + floor) / (own + floor)), rel=1e-3)
    assert np.abs(np.delete(gained, row)).max() < 0.01
    assert later.model is SERVING.model
    assert later.fold_in is SERVING.fold_in


def test_a_model_that_goes_live_meanwhile_is_not_overwritten() -> None:
    live = live_of()
    other = ServingModel.of(random_model(2))
    live.swap(other)

    assert not live.exchange(SERVING, SERVING.with_popularity(SERVING.model.popularity))
    assert live.get() is other


def damage_length(store: LiveStore) -> None:
    put(store, b"short")


def damage_value(store: LiveStore) -> None:
    put(store, real(float("nan")))


def put(store: LiveStore, value: bytes) -> None:
    environment = store.environment()
    assert environment is not None
    with environment.begin(write=True, db=environment[COUNTS]) as transaction:
        transaction.put(within_hour(CUT_OFF_HOUR, "v1"), value)
    count(store, likes(CUT_OFF_MS, "v2"))


@pytest.mark.parametrize("damage", [damage_length, damage_value])
def test_counts_that_the_disk_changed_leave_the_last_prior(
    store: LiveStore, damage: Callable[[LiveStore], None]
) -> None:
    live = live_of()
    freshness = fresh(store, live)
    count(store, likes(CUT_OFF_MS, "v1"))
    assert freshness.refresh()
    before = live.get()

    damage(store)

    with pytest.raises((StoreError, DamagedError)):
        freshness.refresh()
    assert live.get() is before


def test_a_store_in_the_place_of_another_is_read_as_a_whole(store: LiveStore) -> None:
    """Until there is one, the last prior stays; the same count of changes does not make it the same."""
    live = live_of()
    freshness = fresh(store, live)
    count(store, likes(CUT_OFF_MS, "v1"))
    assert freshness.refresh()
    before = live.get()

    with store.turn():
        store.make_current("")
    assert not freshness.refresh()
    assert live.get() is before

    with store.turn():
        store.make_current(store.create())
    count(store, likes(CUT_OFF_MS, "v2"))
    assert freshness.refresh()
    gained = live.get().prior - SERVING.prior
    assert {*np.flatnonzero(gained).tolist()} == {SERVING.model.videos.row("v2")}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let the first refreshment fail."""
    failed: list[bool] = []
    refresh = LivePopularity.refresh

    def fail_once(freshness: LivePopularity) -> bool:
        if not failed:
            failed.append(True)
            raise RuntimeError("defect")
        return refresh(freshness)

    monkeypatch.setattr(LivePopularity, "refresh", fail_once)
    return failed


def test_a_defect_ends_one_refreshment_not_all(store: LiveStore, failing: list[bool]) -> None:
    live = live_of()
    freshness = fresh(store, live, interval_s=0.01)
    count(store, likes(CUT_OFF_MS, "v1"))
    freshness.start()
    try:
        wait_for(lambda: live.get() is not SERVING, what="a fresh prior")
    finally:
        freshness.stop()

    assert failing

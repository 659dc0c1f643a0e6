from itertools import count
from pathlib import Path

from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.limits import LOOKS, Dropped, drop_marks, keep_within
from recsvc.live_state.store import LiveStore
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.live_stores import fill, forget, found_wrong, learn, moments, new_store


def users(store: LiveStore, most: int) -> list[int]:
    return [number for number in range(most) if moments(store, f"user-{number}.")]


def test_users_and_counts_of_hours_before_the_live_models_data_go(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(240))  # a minute each
    learn(store, "user-0.", 3 * HOUR_MS)

    dropped = keep_within(store, since_ms=2 * HOUR_MS + 5)

    assert dropped == Dropped(old_users=119, users=0, sums=120)
    assert users(store, 240) == [0, *range(120, 240)]
    assert list(store.hours()) == [2, 3]
    assert keep_within(store, since_ms=2 * HOUR_MS + 5) == Dropped()
    assert found_wrong(store) == []


def test_the_oldest_users_go_until_the_store_is_small_enough(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(3000))
    environment = store.environment()
    assert environment
    store.max_bytes = environment.used_bytes() // 2

    dropped = keep_within(store, since_ms=0)

    assert environment.used_bytes() <= store.max_bytes
    assert 1000 < dropped.users < 3000
    assert users(store, 3000) == list(range(dropped.users, 3000))
    assert keep_within(store, since_ms=0) == Dropped()
    assert found_wrong(store) == []


def test_the_oldest_counts_go_until_there_are_few_enough(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(240))

    dropped = keep_within(store, since_ms=0, max_sums=100)

    assert dropped.sums == 160  # in steps
    assert list(store.hours()) == [2, 3]
    assert len(store.counts(2)[0]) == 20
    assert len(users(store, 240)) == 240


def test_no_batch_takes_long(tmp_path: Path) -> None:
    """By a clock on which each look takes a second, each batch ends at its second look."""
    store = new_store(tmp_path)
    fill(store, range(200))
    batches = 0
    seconds = count()

    def monotonic() -> float:
        nonlocal batches
        batches += 1
        return next(seconds)

    assert keep_within(store, since_ms=200 * 60_000, monotonic=monotonic).old_users == 180
    assert batches >= 180 // LOOKS


def test_an_empty_folder_has_nothing_to_drop(tmp_path: Path) -> None:
    store = new_store(tmp_path)

    assert keep_within(store, since_ms=10**15) == Dropped()
    assert drop_marks(store, before_ms=10**15) == 0


def test_old_marks_go_unless_the_profile_was_not_looked_up(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    learn(store, "c", 1, 20)
    for number in range(100):
        forget(store, f"old-{number}", 10)
    forget(store, "b", 30)
    forget(store, "c", 10, by_name=False)

    assert drop_marks(store, before_ms=20) == 100

    assert {mark for mark, _, _ in store.marks()} == {user_fingerprint("b"), user_fingerprint("c")}
    assert moments(store, "c") == [20]

from collections.abc import Callable
from pathlib import Path

import pytest

from recsvc.live_state import compaction
from recsvc.live_state.compaction import ERASED_AFTER_MS, compact, is_due
from recsvc.live_state.environment import ABOUT, TOUCHED
from recsvc.live_state.keys import COPYING
from recsvc.live_state.store import LiveStore, StoreError
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.live_stores import contents, data_file, fill, forget, found_wrong, learn, moments, new_store

LATE_MS = 10**12


class StoppedError(Exception):
    """Ends a compaction."""


def in_the_middle(*steps: Callable[[], object]) -> Callable[[], None]:
    """Return a pause that does a step each time."""
    left = list(steps)

    def pause() -> None:
        if left:
            left.pop(0)()

    return pause


def is_noting(store: LiveStore) -> bool:
    environment = store.environment()
    assert environment
    with environment.begin() as transaction:
        touched = transaction.stat(environment[TOUCHED])["entries"]
    return environment.value(ABOUT, COPYING) is not None or touched > 0


@pytest.mark.parametrize("by_name", [True, False])
def test_nothing_of_a_user_who_was_forgotten_is_found_in_the_files(tmp_path: Path, *, by_name: bool) -> None:
    store = new_store(tmp_path)
    fill(store, range(500))
    gone = [f"user-{number}." for number in range(0, 500, 7)]
    for user in gone:
        forget(store, user, LATE_MS, by_name=by_name)
    assert any(user.encode() in contents(tmp_path) for user in gone)

    compact(store)

    found = contents(tmp_path)
    assert not [user for user in gone if user.encode() in found]
    assert all(f"user-{number}.".encode() in found for number in range(500) if number % 7)
    assert [store.known(user).forgotten_at_ms for user in gone] == [LATE_MS] * len(gone)
    assert {mark for mark, _, is_applied in store.marks() if is_applied} == set(map(user_fingerprint, gone))
    assert found_wrong(store) == []


@pytest.mark.parametrize("by_name", [True, False])
def test_one_who_is_forgotten_meanwhile_goes_with_the_next_one(tmp_path: Path, *, by_name: bool) -> None:
    store = new_store(tmp_path)
    fill(store, range(500))
    forget(store, "user-1.", LATE_MS)

    compact(store, pause=in_the_middle(*[lambda: None] * 2, lambda: forget(store, "user-2.", LATE_MS, by_name=by_name)))

    assert store.known("user-2.").profile is None
    assert b"user-1." not in contents(tmp_path)
    assert is_due(store, now_ms=LATE_MS + ERASED_AFTER_MS)
    compact(store)
    assert b"user-2." not in contents(tmp_path)
    assert not is_due(store, now_ms=LATE_MS + ERASED_AFTER_MS)


def test_what_a_user_did_later_stays(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    learn(store, "a", 1, 2, 30, 40)
    forget(store, "a", 2, by_name=False)

    compact(store, pause=in_the_middle(lambda: learn(store, "a", 50)))

    assert moments(store, "a") == [30, 40, 50]
    assert found_wrong(store) == []


def test_what_is_told_while_it_runs_is_in_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "STEP", 50)
    store, other = new_store(tmp_path), LiveStore(tmp_path, is_synced=False)
    fill(store, range(500))
    rounds = iter(range(500, 2000))

    def more() -> None:
        number = next(rounds)
        fill(other, [number, number - 400])
        with other.writing() as batch:
            batch.drop(f"user-{number - 500}.")
            batch.describe("cluster", str(number))

    compact(store, pause=more)

    last = next(rounds) - 1
    assert other.about() == {"cluster": str(last)}
    assert other.progress() == {("topic", 0): (last - 400, last - 400)}
    known = [number for number in range(last + 1) if moments(other, f"user-{number}.")]
    assert known == list(range(last - 499, last + 1))
    assert found_wrong(store) == []
    assert not is_noting(store)


def test_free_pages_are_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MIN_FREE_BYTES", 1 << 16)
    store = new_store(tmp_path)
    fill(store, range(3000))
    assert not is_due(store, now_ms=0)
    with store.writing() as batch:
        for number in range(100, 3000):
            batch.drop(f"user-{number}.")
    assert is_due(store, now_ms=0)

    done = compact(store)

    assert done.bytes_after < done.bytes_before // 2
    assert data_file(store).stat().st_size == done.bytes_after
    assert store.names() == [store.current()]
    assert len(moments(store, "user-99.")) == 3
    assert not is_due(store, now_ms=0)


@pytest.mark.parametrize("now_ms", [LATE_MS + ERASED_AFTER_MS, LATE_MS - 1])
def test_it_is_due_half_a_minute_after_an_erasure_also_when_the_clock_was_set_back(tmp_path: Path, now_ms: int) -> None:
    store = new_store(tmp_path)
    assert not is_due(store, now_ms=now_ms)
    forget(store, "a", LATE_MS)

    assert not is_due(store, now_ms=LATE_MS)
    assert is_due(store, now_ms=now_ms)
    compact(store)
    forget(store, "a", LATE_MS)  # a repetition
    assert not is_due(store, now_ms=now_ms)


def test_one_that_is_ended_changes_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    fill(store, range(100))
    forget(store, "user-1.", LATE_MS)
    before = store.current()

    def stop() -> None:
        forget(store, "user-2.", LATE_MS + 1)
        raise StoppedError

    with pytest.raises(StoppedError):
        compact(store, pause=stop)

    assert store.current() == before
    assert store.names() == [before]
    assert not is_noting(store)
    assert is_due(store, now_ms=LATE_MS + ERASED_AFTER_MS)
    assert len(moments(store, "user-3.")) == 3


def test_a_lookup_under_way_ends_on_the_former_one(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    learn(store, "a", 1)
    former = store.environment()
    assert former
    with former.begin() as transaction:
        compact(store)
        learn(store, "a", 2)
        assert transaction.get(b"a", db=former["profiles"])
    assert store.environment() is not former
    assert moments(store, "a") == [1, 2]


def test_a_copy_is_as_synced_as_the_store(tmp_path: Path) -> None:
    store = new_store(tmp_path, is_synced=True)
    learn(store, "a", 1)

    compact(store)

    environment = store.environment()
    assert environment
    assert environment.lmdb.flags()["sync"]


def test_there_is_nothing_to_compact_before_there_is_a_store(tmp_path: Path) -> None:
    store = LiveStore(tmp_path)

    assert not is_due(store, now_ms=0)
    with pytest.raises(StoreError):
        compact(store)


def test_what_is_in_a_file_that_somebody_removed_is_saved(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    learn(store, "a", 1)
    data_file(store).unlink()
    with pytest.raises(StoreError, match="not there now"):
        learn(store, "a", 2)
    assert is_due(store, now_ms=0)

    compact(store)

    learn(store, "a", 3)
    other = LiveStore(tmp_path, is_synced=False, max_bytes=64 << 20)
    other.environment()
    assert moments(other, "a") == [1, 3]

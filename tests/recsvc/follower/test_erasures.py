"""The store and the list in the model store learn of each other's users."""

from pathlib import Path

from modelstore.erased_users import ErasedUsers
from recsvc.follower.erasures import ALL_EVERY_S, Erasures
from recsvc.live_state.keys import hour_of
from recsvc.live_state.store import LiveStore
from servicekit.storage.object_store import FileStore
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.stores import prepared

NOW_MS = 1_800_000_000_000
ONE, TWO, THREE = (user_fingerprint(name) for name in ("one", "two", "three"))


def forget(store: LiveStore, *users: str, at_ms: int = NOW_MS) -> None:
    with store.writing() as batch:
        for user in users:
            batch.forget(user_fingerprint(user), at_ms, user_id=user)


def listed(folder: Path) -> dict[bytes, int] | None:
    return ErasedUsers(FileStore(folder / "models")).marks()


def test_each_learns_of_the_others_users(tmp_path: Path) -> None:
    store, clock = prepared(tmp_path / "live"), 0.0
    erasures = Erasures(store, ErasedUsers(FileStore(tmp_path / "models")), now_ms=lambda: NOW_MS, clock=lambda: clock)
    erasures.look()
    assert listed(tmp_path) is None, "nothing is written where there is nothing"
    with store.writing() as batch:
        batch.learn("two", [("v1", 3, NOW_MS - 9, 0, -1.0)], told_ms=NOW_MS)
    ErasedUsers(FileStore(tmp_path / "models")).merge({TWO: NOW_MS - 5, THREE: NOW_MS + 10**9})
    forget(store, "one")

    erasures.look()

    assert store.known("two") == (None, NOW_MS - 5)
    assert store.known("three").forgotten_at_ms == NOW_MS, "nobody is forgotten in the future"
    assert listed(tmp_path) == {ONE: NOW_MS, TWO: NOW_MS - 5, THREE: NOW_MS + 10**9}
    assert hour_of(NOW_MS) not in store.hours()

    forget(store, "two", at_ms=NOW_MS + 1)
    erasures.look()
    clock += ALL_EVERY_S
    erasures.look()
    found = listed(tmp_path)
    assert found
    assert found[TWO] == NOW_MS + 1, "asked for once more"


def test_marks_that_nobody_needs_are_not_learnt_again(tmp_path: Path) -> None:
    store = prepared(tmp_path / "live")
    erasures = Erasures(store, ErasedUsers(FileStore(tmp_path / "models")), now_ms=lambda: NOW_MS)
    erasures.needed_since_ms = NOW_MS
    ErasedUsers(FileStore(tmp_path / "models")).merge({ONE: NOW_MS - 1, TWO: NOW_MS})
    erasures.look()
    assert {mark for mark, *_ in store.marks()} == {TWO}


def test_without_a_store_nothing_is_read(tmp_path: Path) -> None:
    Erasures(LiveStore(tmp_path / "live"), ErasedUsers(FileStore(tmp_path / "models")), now_ms=lambda: NOW_MS).look()
    assert not (tmp_path / "models").exists()

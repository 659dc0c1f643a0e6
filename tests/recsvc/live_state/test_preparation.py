"""A start finds the store in every state in which it can have been left."""

import shutil
from pathlib import Path

import pytest

from recsvc.live_state import preparation
from recsvc.live_state.compaction import compact, is_due
from recsvc.live_state.environment import ABOUT, ERASURES, PROFILES
from recsvc.live_state.keys import FORMAT_KEY, whole
from recsvc.live_state.note import NOTE, read_note, write_note
from recsvc.live_state.preparation import (
    ASIDE,
    FOLLOWER_LOCK,
    begin_anew,
    close_cleanly,
    examine,
    hold_back,
    prepare,
    set_aside,
)
from recsvc.live_state.store import CURRENT, StoreError
from recsvc.live_state.verification import Verdict
from servicekit.files.lock import FileLock
from tests.recsvc.support.left_stores import is_found, left, store_of
from tests.recsvc.support.live_stores import forget, found_wrong, learn, moments

pytestmark = pytest.mark.process


def no_check(*_: object, **__: object) -> tuple[Verdict, str]:
    raise AssertionError


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert not is_found(tmp_path)


def test_after_a_clean_stop_the_digest_suffices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the machine has been started anew: all of it was on disk."""
    left(tmp_path)
    monkeypatch.setattr(preparation, "check", no_check)

    assert is_found(tmp_path, boot="other")


def test_after_a_death_in_the_same_boot_the_store_is_checked_and_found(tmp_path: Path) -> None:
    left(tmp_path, is_clean=False)

    assert is_found(tmp_path)


def test_after_a_death_of_the_machine_only_a_synced_store_is_trusted(tmp_path: Path) -> None:
    for is_synced in (False, True):
        left(tmp_path / str(is_synced), is_clean=False, is_synced=is_synced)

        assert is_found(tmp_path / str(is_synced), boot="other", is_synced=is_synced) == is_synced


def test_a_write_after_the_clean_stop_takes_the_digests_place_away(tmp_path: Path) -> None:
    left(tmp_path)
    learn(store_of(tmp_path), "late", 1)

    assert not is_found(tmp_path, boot="other")


def test_a_write_in_the_same_boot_is_found(tmp_path: Path) -> None:
    left(tmp_path)
    learn(store_of(tmp_path), "late", 1)
    assert is_found(tmp_path)
    store = store_of(tmp_path)
    store.environment()
    assert moments(store, "late") == [1]


def test_a_restarted_follower_of_the_same_session_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, is_clean=False)
    monkeypatch.setattr(preparation, "check", no_check)

    assert is_found(tmp_path, session="first")


@pytest.mark.parametrize("note", [None, "", "{", '{"boot": 5}', "\xff" * 10_000])
def test_a_store_without_a_readable_note_is_not_trusted(tmp_path: Path, note: str | None) -> None:
    left(tmp_path)
    (tmp_path / NOTE).unlink()
    if note is not None:
        (tmp_path / NOTE).write_text(note, encoding="latin-1")

    assert not is_found(tmp_path)


def test_nor_is_one_of_another_format(tmp_path: Path) -> None:
    left(tmp_path)
    note = read_note(tmp_path)
    assert note
    write_note(tmp_path, note.model_copy(update={"store_format": 0}))

    assert not is_found(tmp_path)


def test_nor_is_one_that_says_so_itself(tmp_path: Path) -> None:
    left(tmp_path, is_clean=False)
    store = store_of(tmp_path)
    environment = store.environment()
    assert environment
    with environment.begin(write=True) as transaction:
        transaction.put(FORMAT_KEY, whole(0), db=environment[ABOUT])
    del environment, store

    assert not is_found(tmp_path)


def test_what_a_killed_follower_left_is_removed(tmp_path: Path) -> None:
    left(tmp_path)
    (tmp_path / "store-99").mkdir()
    (tmp_path / "checked-x").mkdir()

    assert is_found(tmp_path)
    assert not (tmp_path / "checked-x").exists()


def test_a_start_that_was_killed_during_the_check_finds_the_store_again(tmp_path: Path) -> None:
    left(tmp_path)
    set_aside(tmp_path)
    assert (tmp_path / CURRENT).read_text() == ""
    (tmp_path / "store-99").mkdir()  # a copy that was never finished

    store = store_of(tmp_path)

    assert prepare(store, session="second", boot="boot")
    assert moments(store, "user-7.")
    assert not (tmp_path / ASIDE).exists()


def test_nothing_begins_anew_when_the_check_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, is_clean=False)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "check", lambda _: (Verdict.UNKNOWN, "no memory"))
        with pytest.raises(StoreError, match="no memory"):
            prepare(store_of(tmp_path), session="second", boot="boot")

    assert is_found(tmp_path, session="third")


def test_a_compacted_store_is_left_as_any_other(tmp_path: Path) -> None:
    left(tmp_path)
    store = store_of(tmp_path)
    prepare(store, session="second", boot="boot")
    compact(store)
    close_cleanly(store, session="second", boot="boot")
    del store

    assert is_found(tmp_path, boot="other", session="third")


def test_a_store_that_begins_anew_keeps_the_marks(tmp_path: Path) -> None:
    left(tmp_path)
    store = store_of(tmp_path)
    prepare(store, session="second", boot="boot")
    forget(store, "user-1.", 10**12, by_name=False)

    begin_anew(store)

    assert store.progress() == {}
    environment = store.environment()
    assert environment
    assert (environment.count(PROFILES), environment.count(ERASURES)) == (0, 1)
    assert store.known("user-1.").forgotten_at_ms == 10**12
    assert not is_due(store, now_ms=10**13)
    assert store.names() == [store.current()]
    assert found_wrong(store) == []


@pytest.mark.parametrize(
    "name", [b"store-1\0", b"../elsewhere", b"pending", b".", b"store-\xff", b"store-" + b"9" * 300, b""]
)
def test_a_name_that_the_disk_changed_opens_nothing(tmp_path: Path, name: bytes) -> None:
    left(tmp_path)
    (tmp_path / CURRENT).write_bytes(name)
    store = store_of(tmp_path)
    assert store.environment() is None
    assert store.look("user-7.") == (None, None)
    prepare(store, session="second", boot="boot")
    learn(store, "after", 1)
    assert moments(store, "after") == [1]


@pytest.mark.parametrize("name", ["writing.lock", "waiting.lock", CURRENT])
def test_a_folder_in_the_place_of_a_file_keeps_no_reader_from_starting(tmp_path: Path, name: str) -> None:
    left(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    store = store_of(tmp_path)
    assert store.environment() is None
    assert store.look("user-7.") == (None, None)
    with pytest.raises(OSError, match=r"Is a directory|not there now"), store.writing():
        pass


def test_what_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    file = left(tmp_path)
    file.unlink()
    file.mkdir()
    assert not is_found(tmp_path)


def test_nobody_maps_what_an_earlier_run_left_before_it_is_checked(tmp_path: Path) -> None:
    left(tmp_path)
    hold_back(tmp_path)
    assert store_of(tmp_path).environment() is None
    assert is_found(tmp_path)


def test_what_another_run_has_in_use_is_not_held_back(tmp_path: Path) -> None:
    left(tmp_path)
    with FileLock(tmp_path / FOLLOWER_LOCK):
        hold_back(tmp_path)
    assert store_of(tmp_path).environment() is not None


def test_there_is_nothing_to_hold_back_at_first(tmp_path: Path) -> None:
    hold_back(tmp_path / "new")
    assert not is_found(tmp_path / "new")


@pytest.mark.parametrize("content", [None, b"\xff\0"])
def test_one_that_no_file_names_is_found_where_it_is_the_only_one(tmp_path: Path, content: bytes | None) -> None:
    """Without Kafka, nobody else has what was acknowledged."""
    left(tmp_path, is_synced=True)
    (tmp_path / CURRENT).unlink()
    if content:
        (tmp_path / CURRENT).write_bytes(content)
    assert is_found(tmp_path, is_synced=True)


def test_a_new_one_never_has_the_name_of_one_that_somebody_removed(tmp_path: Path) -> None:
    """Else nobody would open it, and a compaction would remove its own copy."""
    store = store_of(tmp_path)
    prepare(store, session="first", boot="boot")
    shutil.rmtree(tmp_path / store.current())
    before = store.current()
    assert examine(store)
    assert store.current() != before
    learn(store, "after", 1)
    assert moments(store, "after") == [1]

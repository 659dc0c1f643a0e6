"""A start finds the store in every state in which it can have been left."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recsvc.live_state import preparation
from recsvc.live_state.compaction import compact, is_due
from recsvc.live_state.environment import ABOUT, ERASURES, PROFILES
from recsvc.live_state.keys import FORMAT_KEY, whole
from recsvc.live_state.note import NOTE, Note, boot_id, read_note, write_note
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
from recsvc.live_state.store import CURRENT, LiveStore, StoreError
from recsvc.live_state.verification import Verdict, check
from servicekit.files.lock import FileLock
from tests.recsvc.support.live_stores import PAGE_BYTES, data_file, fill, forget, found_wrong, learn, moments, overwrite

pytestmark = pytest.mark.process

USERS = range(1000)


def store_of(folder: Path, *, is_synced: bool = False) -> LiveStore:
    return LiveStore(folder, is_synced=is_synced, max_bytes=64 << 20)


def left(folder: Path, *, is_clean: bool = True, is_synced: bool = False, boot: str = "boot") -> Path:
    """Leave a store, and return its file."""
    store = store_of(folder, is_synced=is_synced)
    assert not prepare(store, session="first", boot=boot)
    fill(store, USERS)
    if is_clean:
        close_cleanly(store, session="first", boot=boot)
    return data_file(store)


def is_found(folder: Path, *, boot: str = "boot", is_synced: bool = False, session: str = "second") -> bool:
    """Start, and return whether what was left is there."""
    store = store_of(folder, is_synced=is_synced)
    has_progress = prepare(store, session=session, boot=boot)
    assert has_progress == bool(moments(store, "user-7."))
    assert has_progress == bool(store.progress())
    assert not store.damage.is_reported
    learn(store, "after", 1)
    assert moments(store, "after") == [1]
    assert store.names() == [store.current()]
    return has_progress


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


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_page(file: Path) -> None:
    os.truncate(file, file.stat().st_size - PAGE_BYTES)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def remove(file: Path) -> None:
    file.unlink()


def half_page(file: Path) -> None:
    """A page in the middle is half what it was before."""
    overwrite(file, file.stat().st_size // 2 // PAGE_BYTES * PAGE_BYTES + PAGE_BYTES // 2, b"\0" * (PAGE_BYTES // 2))


def zero_pages(file: Path) -> None:
    """What a file system may leave of pages that were not on disk."""
    overwrite(file, 2 * PAGE_BYTES, b"\0" * (file.stat().st_size - 2 * PAGE_BYTES))


def one_value(file: Path) -> None:
    """The walk over the pages cannot see it."""
    at = file.read_bytes().rindex(b"video-60000\0")
    overwrite(file, at, b"w")


def noise(file: Path) -> None:
    overwrite(file, 0, random.Random(5).randbytes(file.stat().st_size))


@pytest.mark.parametrize("hurt", [cut, cut_page, empty, remove, half_page, zero_pages, one_value, noise])
@pytest.mark.parametrize("is_clean", [True, False])
def test_a_store_that_was_damaged_at_rest_begins_anew(
    tmp_path: Path, hurt: Callable[[Path], None], *, is_clean: bool
) -> None:
    hurt(left(tmp_path, is_clean=is_clean))

    assert not is_found(tmp_path)


def test_random_damage_is_found_or_hurts_nothing(tmp_path: Path) -> None:
    """Bytes of free pages and of pages' gaps may be anything."""
    file = left(tmp_path, is_clean=False)
    sound = file.read_bytes()
    chance = random.Random(3)
    for _ in range(12):
        hurt = bytearray(sound)
        for _ in range(3):
            hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
        file.write_bytes(hurt)
        verdict, why = check(file.parent)
        assert verdict is Verdict.DAMAGED or not why


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


def test_a_report_without_damage_changes_nothing(tmp_path: Path) -> None:
    left(tmp_path)
    store = store_of(tmp_path)
    assert is_found(tmp_path)
    before = store.current()
    store.damage.report()

    assert not examine(store)

    assert store.current() == before
    assert not store.damage.is_reported


def test_damage_while_running_is_found_and_exchanged_for_an_empty_store(tmp_path: Path) -> None:
    left(tmp_path)
    store = store_of(tmp_path)
    assert prepare(store, session="second", boot="boot")
    environment = store.environment()
    assert environment
    with environment.begin(write=True) as transaction:
        transaction.put(b"user-7.", b"anything", db=environment[PROFILES])
    assert moments(store, "user-7.") == []
    reports = store.damage.reports

    assert reports
    assert examine(store)

    assert not store.damage.is_reported
    assert store.progress() == {}
    learn(store, "user-7.", 1)
    assert moments(store, "user-7.") == [1]
    assert found_wrong(store) == []


def test_a_file_that_is_cut_while_it_is_mapped_is_exchanged(tmp_path: Path) -> None:
    """A worker would die by SIGBUS: whoever sees that sets the store aside, and nobody maps it again."""
    file = left(tmp_path)
    store = store_of(tmp_path)
    assert prepare(store, session="second", boot="boot")
    os.truncate(file, file.stat().st_size // 2)

    set_aside(tmp_path)
    assert store.environment() is None
    with pytest.raises(StoreError), store.writing():
        pass
    assert store.damage.is_reported
    assert examine(store)

    assert store.progress() == {}
    learn(store, "a", 1)
    assert moments(store, "a") == [1]


def test_a_store_that_was_set_aside_and_is_sound_comes_back(tmp_path: Path) -> None:
    left(tmp_path)
    store = store_of(tmp_path)
    prepare(store, session="second", boot="boot")
    set_aside(tmp_path)
    set_aside(tmp_path)

    assert not examine(store)

    assert moments(store, "user-7.")


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


def test_the_kernel_names_its_run() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


def test_a_note_comes_back(tmp_path: Path) -> None:
    note = Note(boot="b", session="s", is_synced=True, environment="store-1", digest="d")

    write_note(tmp_path, note)

    assert read_note(tmp_path) == note


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

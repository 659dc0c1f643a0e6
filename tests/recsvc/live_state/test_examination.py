"""An examination tells damage from a false report, while the store is in use."""

import os
from pathlib import Path

import pytest

from recsvc.live_state.environment import PROFILES
from recsvc.live_state.preparation import (
    examine,
    prepare,
    set_aside,
)
from recsvc.live_state.store import StoreError
from tests.recsvc.support.left_stores import is_found, left, store_of
from tests.recsvc.support.live_stores import found_wrong, learn, moments

pytestmark = pytest.mark.process


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

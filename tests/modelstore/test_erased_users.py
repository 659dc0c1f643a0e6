"""Who is forgotten by one server is forgotten by all of the store."""

import threading
from pathlib import Path

import grpc
import pytest

from modelstore.erased_users import KEY, ErasedUsers
from modelstore.registry import Registry
from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.domain.user import UserState
from recsvc.model.serving_model import ServingModel
from recsvc.profile_log.log import ProfileLog
from recsvc.users.directory import UserDirectory
from recsvc.users.profiles import fingerprint
from servicekit.grpc.errors import ServiceError
from servicekit.storage.object_store import FileStore
from tests.recsvc.support.audiences import CUT_OFF_MS, NOW_MS, audience
from tests.recsvc.support.models import publish, random_model
from tests.support.polling import wait_for

MODEL = ServingModel.of(random_model(1))
LIKE = Interaction("v3", InteractionType.LIKE, CUT_OFF_MS)


def known_as(users: UserDirectory, user_id: str) -> UserState:
    return users.user(MODEL, user_id).state


def test_another_server_forgets_too_and_erases_what_it_kept(tmp_path: Path) -> None:
    journal = ProfileLog(tmp_path / "there")
    there = audience(journal)
    there.update("u1", [LIKE])
    there.update("u2", [LIKE])
    here, away = (ErasedUsers(FileStore(tmp_path / "store"), interval_s=0.02) for _ in range(2))
    away.start(there.learn_forgotten)
    try:
        here.add(fingerprint("u1"), NOW_MS)
        wait_for(lambda: known_as(there, "u1") is UserState.COLD, what="forgotten there")
    finally:
        away.stop()

    assert known_as(there, "u2") is UserState.FOLDED_IN
    journal.compact()
    assert b'"u1"' not in (tmp_path / "there").read_bytes()
    assert b'"u2"' in (tmp_path / "there").read_bytes()


def test_what_a_full_disk_kept_from_being_noted_is_noted_later(tmp_path: Path) -> None:
    """The user is a stranger at once all the same."""
    path = tmp_path / "here" / "j"
    here = audience(ProfileLog(path))
    here.update("u1", [LIKE])
    kept = path.rename(path.with_name("kept"))
    path.mkdir()  # no file can be written there
    with pytest.raises(OSError, match="directory"):
        here.learn_forgotten({fingerprint("u1"): NOW_MS})
    assert known_as(here, "u1") is UserState.COLD

    path.rmdir()
    kept.rename(path)
    here.learn_forgotten({fingerprint("u1"): NOW_MS})

    again = audience(ProfileLog(path))
    again.catch_up()
    assert known_as(again, "u1") is UserState.COLD


def test_a_new_server_knows_before_it_serves(tmp_path: Path) -> None:
    ErasedUsers(FileStore(tmp_path)).add(fingerprint("u1"), NOW_MS)
    fresh, reader = audience(), ErasedUsers(FileStore(tmp_path))

    reader.start(fresh.learn_forgotten)
    reader.stop()

    assert known_as(fresh, "u1") is UserState.COLD
    assert known_as(fresh, "u2") is UserState.TRAINED


def test_servers_that_write_at_once_lose_nobody(tmp_path: Path) -> None:
    lists = [ErasedUsers(FileStore(tmp_path)) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda own=own, number=number: own.add(bytes([number]), NOW_MS))
        for number, own in enumerate(lists)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found: dict[bytes, int] = {}
    reader = ErasedUsers(FileStore(tmp_path))
    reader.start(found.update)
    reader.stop()
    assert found == {bytes([number]): NOW_MS for number in range(3)}


def test_a_store_that_cannot_be_written_is_told_and_this_server_has_forgotten(tmp_path: Path) -> None:
    (tmp_path / KEY).mkdir(parents=True)  # no file can be written there
    users = UserDirectory(audience()._profiles, None, now_ms=lambda: NOW_MS, share=ErasedUsers(FileStore(tmp_path)).add)

    with pytest.raises(ServiceError) as caught:
        users.forget("u1")

    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert caught.value.retry_after_s
    assert known_as(users, "u1") is UserState.COLD


def test_the_list_is_no_model(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    ErasedUsers(FileStore(tmp_path / "store")).add(fingerprint("u1"), NOW_MS)

    assert Registry(FileStore(tmp_path / "store")).versions() == ["1"]

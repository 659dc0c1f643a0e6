"""Who is forgotten by one server is forgotten by all of the store."""

import threading
from pathlib import Path

import grpc
import pytest

from modelstore.erased_users import KEY, ErasedUsers
from modelstore.registry import Registry
from recsvc.domain.user import UserState
from recsvc.model.serving_model import ServingModel
from recsvc.users.directory import UserDirectory
from servicekit.grpc.errors import ServiceError
from servicekit.storage.object_store import FileStore
from servicekit.user_fingerprint import user_fingerprint as fingerprint
from tests.recsvc.support.directories import NOW_MS, directory
from tests.recsvc.support.models import publish, random_model

MODEL = ServingModel.of(random_model(1))


def known_as(users: UserDirectory, user_id: str) -> UserState:
    return users.user(MODEL, user_id).state


def marks(store: Path) -> dict[bytes, int] | None:
    """Return what a server learns when it starts."""
    return ErasedUsers(FileStore(store)).marks()


def test_another_server_learns_of_it_once_and_a_new_one_at_its_start(tmp_path: Path) -> None:
    here, away = (ErasedUsers(FileStore(tmp_path)) for _ in range(2))
    here.add(fingerprint("u1"), NOW_MS)

    assert away.marks() == marks(tmp_path) == {fingerprint("u1"): NOW_MS}
    assert away.marks() is None


def test_who_is_forgotten_by_this_server_is_on_the_list(tmp_path: Path) -> None:
    users = directory(share=ErasedUsers(FileStore(tmp_path)).add)

    users.forget("u1")

    assert marks(tmp_path) == {fingerprint("u1"): NOW_MS}


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

    assert marks(tmp_path) == {bytes([number]): NOW_MS for number in range(3)}


def test_a_store_that_cannot_be_written_is_told_and_this_server_has_forgotten(tmp_path: Path) -> None:
    (tmp_path / KEY).mkdir(parents=True)  # no file can be written there
    users = directory(share=ErasedUsers(FileStore(tmp_path)).add)

    with pytest.raises(ServiceError) as caught:
        users.forget("u1")

    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert caught.value.retry_after_s
    assert known_as(users, "u1") is UserState.COLD


def test_the_list_is_no_model(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    ErasedUsers(FileStore(tmp_path / "store")).add(fingerprint("u1"), NOW_MS)

    assert Registry(FileStore(tmp_path / "store")).versions() == ["1"]

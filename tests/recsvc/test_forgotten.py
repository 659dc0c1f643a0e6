"""Who is forgotten by one server is forgotten by all of the store."""

import threading
from pathlib import Path

import grpc
import pytest

from recsvc.audience import Audience
from recsvc.forgotten import KEY, Forgotten
from recsvc.interactions import Interaction, Kind
from recsvc.journal import Journal
from recsvc.profiles import fingerprint
from recsvc.registry import Registry
from recsvc.serving_model import ServingModel
from recsvc.viewers import ViewerState
from servicekit.errors import ServiceError
from servicekit.objectstore import FileStore
from tests.recsvc.audiences import CUT_OFF_MS, NOW_MS, audience
from tests.recsvc.models import publish, random_model
from tests.support.polling import wait_for

MODEL = ServingModel.of(random_model(1))
LIKE = Interaction("v3", Kind.LIKE, CUT_OFF_MS)


def known_as(viewers: Audience, user_id: str) -> ViewerState:
    return viewers.viewer(MODEL, user_id).state


def test_another_server_forgets_too_and_erases_what_it_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "there")
    there = audience(journal)
    there.update("u1", [LIKE])
    there.update("u2", [LIKE])
    here, away = (Forgotten(FileStore(tmp_path / "store"), interval_s=0.02) for _ in range(2))
    away.begin(there.learn_forgotten)
    try:
        here.add(fingerprint("u1"), NOW_MS)
        wait_for(lambda: known_as(there, "u1") is ViewerState.COLD, what="forgotten there")
    finally:
        away.end()

    assert known_as(there, "u2") is ViewerState.FOLDED_IN
    journal.compact()
    assert b'"u1"' not in (tmp_path / "there").read_bytes()
    assert b'"u2"' in (tmp_path / "there").read_bytes()


def test_what_a_full_disk_kept_from_being_noted_is_noted_later(tmp_path: Path) -> None:
    """The viewer is a stranger at once all the same."""
    path = tmp_path / "here" / "j"
    here = audience(Journal(path))
    here.update("u1", [LIKE])
    kept = path.rename(path.with_name("kept"))
    path.mkdir()  # no file can be written there
    with pytest.raises(OSError, match="directory"):
        here.learn_forgotten({fingerprint("u1"): NOW_MS})
    assert known_as(here, "u1") is ViewerState.COLD

    path.rmdir()
    kept.rename(path)
    here.learn_forgotten({fingerprint("u1"): NOW_MS})

    again = audience(Journal(path))
    again.catch_up()
    assert known_as(again, "u1") is ViewerState.COLD


def test_a_new_server_knows_before_it_serves(tmp_path: Path) -> None:
    Forgotten(FileStore(tmp_path)).add(fingerprint("u1"), NOW_MS)
    fresh, reader = audience(), Forgotten(FileStore(tmp_path))

    reader.begin(fresh.learn_forgotten)
    reader.end()

    assert known_as(fresh, "u1") is ViewerState.COLD
    assert known_as(fresh, "u2") is ViewerState.TRAINED


def test_servers_that_write_at_once_lose_nobody(tmp_path: Path) -> None:
    lists = [Forgotten(FileStore(tmp_path)) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda own=own, number=number: own.add(bytes([number]), NOW_MS))
        for number, own in enumerate(lists)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found: dict[bytes, int] = {}
    reader = Forgotten(FileStore(tmp_path))
    reader.begin(found.update)
    reader.end()
    assert found == {bytes([number]): NOW_MS for number in range(3)}


def test_a_store_that_cannot_be_written_is_told_and_this_server_has_forgotten(tmp_path: Path) -> None:
    (tmp_path / KEY).mkdir(parents=True)  # no file can be written there
    viewers = Audience(audience()._profiles, None, now_ms=lambda: NOW_MS, share=Forgotten(FileStore(tmp_path)).add)

    with pytest.raises(ServiceError) as caught:
        viewers.forget("u1")

    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert caught.value.retry_after_s
    assert known_as(viewers, "u1") is ViewerState.COLD


def test_the_list_is_no_model(tmp_path: Path) -> None:
    publish(tmp_path / "store", random_model(version="1"))
    Forgotten(FileStore(tmp_path / "store")).add(fingerprint("u1"), NOW_MS)

    assert Registry(FileStore(tmp_path / "store")).versions() == ["1"]

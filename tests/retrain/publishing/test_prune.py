"""Which versions are removed, on real stores."""

from datetime import timedelta
from pathlib import Path

import pytest

from modelstore.artefact import read
from modelstore.registry import Registry
from retrain.publishing.prune import plan_pruning, prune
from retrain.publishing.publish import publish, write_verified
from servicekit.storage.object_store import FileStore
from tests.retrain.support.models import NOW, model


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    """Return five published versions, oldest first; the last one is live."""
    names = []
    registry = Registry(FileStore(tmp_path / "store"))
    for number in range(5):
        until = NOW - timedelta(days=9 - number)
        folder = tmp_path / str(number)
        manifest = write_verified(model(until=until), f"{until:%Y%m%dT%H%M%SZ}-abcdef{number}-", folder)
        names.append(publish(registry, folder, manifest, now=NOW).version)
    return names


def test_the_newest_and_the_live_one_stay(versions: list[str], tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    registry = Registry(store)
    registry.activate(versions[0], at=NOW, pin=True)
    assert plan_pruning(store, keep=2, now=NOW).removed == (versions[1], versions[2])
    assert len(registry.versions()) == 5
    done = prune(store, keep=2, now=NOW)
    assert (done.removed, done.kept) == ((versions[1], versions[2]), (versions[0], versions[3], versions[4]))
    assert registry.versions() == [versions[4], versions[3], versions[0]]
    current = registry.current()
    assert current
    assert read(registry.fetch(current[0], tmp_path / "cache")).manifest.version == versions[0]
    assert prune(store, keep=2, now=NOW).removed == ()


def test_an_upload_that_was_cut_short_goes_when_it_is_old(versions: list[str], tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    for name in ("20260101T000000Z-aaaaaaaa-bbbbbbbb", f"{NOW:%Y%m%dT%H%M%SZ}-aaaaaaaa-bbbbbbbb"):
        store.upload(tmp_path / "0" / "users.npy", f"{name}/users.npy")
    store.upload(tmp_path / "0" / "users.npy", "checkpoints/x/users.npy")
    done = prune(store, keep=9, now=NOW)
    assert done.removed == ("20260101T000000Z-aaaaaaaa-bbbbbbbb",)
    assert {key.partition("/")[0] for key in store.list("")} >= {"checkpoints", *versions}
    assert not [*store.list("20260101T000000Z-aaaaaaaa-bbbbbbbb/")]


def test_of_reports_of_rejected_runs_the_newest_stay(versions: list[str], tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    for day in range(1, 5):
        store.upload(tmp_path / "0" / "users.npy", f"rejected/2026010{day}T000000Z-aaaaaaaa/report.html")
    done = prune(store, keep=3, now=NOW)
    assert done.removed[-1] == "rejected/20260101T000000Z-aaaaaaaa"
    assert [key[:17] for key in store.list("rejected/")] == [f"rejected/2026010{day}" for day in (2, 3, 4)]
    assert versions[-1] in done.kept


def test_without_a_live_model_the_newest_stay(versions: list[str], tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    store.delete("current.json")
    assert prune(store, keep=1, now=NOW).kept == (versions[4],)

"""Versions made live by hand, on a store with two of them."""

from datetime import timedelta
from pathlib import Path

import pytest

from modelstore.registry import Registry
from retrain.errors import RunError
from retrain.publishing.activate import activate_version
from retrain.publishing.publish import Outcome, activate, publish, write_verified
from servicekit.storage.object_store import FileStore
from tests.retrain.support.models import NOW, model


@pytest.fixture
def versions(tmp_path: Path) -> list[str]:
    """Return two published versions, the second of which is live."""
    names = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        manifest = write_verified(model(until=NOW + timedelta(days=number)), f"{number}-", folder)
        names.append(publish(Registry(FileStore(tmp_path / "store")), folder, manifest, now=NOW).version)
    return names


def test_earlier_version_goes_live_and_stays_when_pinned(versions: list[str], tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    activate_version(store, versions[0], pin=True, now=NOW)
    current = Registry(store).current()
    assert current
    assert (current[0].version, current[0].pinned) == (versions[0], True)
    assert activate(Registry(store), versions[1], now=NOW).outcome is Outcome.PINNED


def test_broken_or_unknown_version_leaves_the_pointer(versions: list[str], tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    (tmp_path / "store" / versions[0] / "users.npy").write_bytes(b"x")
    for version in (versions[0], "never-was", "../up"):
        with pytest.raises(RunError):
            activate_version(store, version, pin=False, now=NOW)
    current = Registry(store).current()
    assert current
    assert current[0].version == versions[1]

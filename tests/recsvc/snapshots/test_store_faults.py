"""A store that fails, stalls or is slow, and a process that dies at its work: no half snapshot is ever used."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsvc.live_state.store import LiveStore
from recsvc.snapshots.child import take_in_subprocess
from recsvc.snapshots.kept_snapshots import PREFIX
from recsvc.snapshots.snapshot import SnapshotError
from recsvc.snapshots.snapshots import Snapshots
from servicekit.storage.object_store import FileStore, S3Store
from tests.recsvc.support.live_states import CLUSTER, NOW_MS, READABLE, contents, live_state, users
from tests.support.polling import wait_for
from tests.support.s3 import new_bucket, s3_server
from tests.support.s3_faults import Fault, Faults, Kind, faulty

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


class Beset:
    """A store behind a proxy."""

    def __init__(self, environment: dict[str, str], faults: Faults, bucket: str) -> None:
        self.environment = environment
        self.faults = faults
        self.url = f"s3://{bucket}/models"
        self.store = S3Store(bucket, "models", read_s=0.5, attempts=2)

    def fail(self, kind: Kind, method: str, path: str, times: int = 1_000_000) -> None:
        self.faults.planned = [Fault(kind=kind, method=method, path=path, times=times)]

    def snapshots(self, now_ms: int = NOW_MS) -> Snapshots:
        return Snapshots(self.store, now_ms=lambda: now_ms)

    def manifests(self) -> list[str]:
        return [key for key in self.store.list(PREFIX) if key.endswith("/manifest")]


@pytest.fixture
def beset(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Beset]:
    with faulty(s3) as (environment, faults):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Beset(environment, faults, new_bucket(s3))


@pytest.fixture
def live(tmp_path: Path) -> LiveStore:
    return live_state(tmp_path / "live", users(50))


@pytest.fixture
def other(tmp_path: Path) -> LiveStore:
    return LiveStore(tmp_path / "other")


@pytest.mark.parametrize("kind", [Kind.SLOW_DOWN, Kind.RESET, Kind.LOST, Kind.SILENCE])
@pytest.mark.parametrize("path", ["claim.json", "part-00000", "manifest"])
def test_a_fault_that_passes_is_survived(
    beset: Beset, live: LiveStore, other: LiveStore, kind: Kind, path: str
) -> None:
    beset.fail(kind, "PUT", path, times=1)

    snapshot = beset.snapshots().take(live, cluster_id=CLUSTER)

    assert beset.faults.happened == [kind]
    assert beset.snapshots().restore(other, cluster_id=CLUSTER, readable=READABLE, marks={}) == snapshot
    assert snapshot


@pytest.mark.parametrize("path", ["part-00000", "manifest"])
def test_a_store_that_takes_nothing_has_no_snapshot(beset: Beset, live: LiveStore, other: LiveStore, path: str) -> None:
    beset.fail(Kind.SLOW_DOWN, "PUT", path)

    with pytest.raises(OSError, match="SlowDown"):
        beset.snapshots().take(live, cluster_id=CLUSTER)

    assert beset.manifests() == []
    assert beset.snapshots().restore(other, cluster_id=CLUSTER, readable=READABLE, marks={}) is None
    beset.faults.planned = []
    assert beset.snapshots().take(live, cluster_id=CLUSTER), "the claim was ended"


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.SLOW_DOWN, ""),
        (Kind.RESET, "manifest"),
        (Kind.STALL, "manifest"),
        (Kind.SLOW_DOWN, "part-00000"),
        (Kind.CUT, "part-00000"),
    ],
)
def test_a_store_that_cannot_be_read_changes_nothing(
    beset: Beset, live: LiveStore, tmp_path: Path, kind: Kind, path: str
) -> None:
    assert beset.snapshots().take(live, cluster_id=CLUSTER)
    behind = live_state(tmp_path / "behind", users(3), places=dict.fromkeys(READABLE, (1, NOW_MS)))
    before = contents(behind)
    snapshots = beset.snapshots()
    beset.fail(kind, "GET", path)

    assert snapshots.restore(behind, cluster_id=CLUSTER, readable=READABLE, marks={}) is None

    assert snapshots.refused == {"store": 1}
    assert contents(behind) == before
    beset.faults.planned = []
    assert snapshots.restore(behind, cluster_id=CLUSTER, readable=READABLE, marks={})


def test_a_store_that_is_too_slow_is_given_up(beset: Beset, live: LiveStore, other: LiveStore) -> None:
    assert beset.snapshots().take(live, cluster_id=CLUSTER)
    snapshots = beset.snapshots()
    beset.fail(Kind.STALL, "GET", "part-00000")

    asked = snapshots.restore(other, cluster_id=CLUSTER, readable=READABLE, marks={}, patience_s=0.3)

    assert asked is None

    assert snapshots.refused == {"time": 1}
    assert other.environment() is None


def test_a_process_of_its_own_takes_it(tmp_path: Path, live: LiveStore, other: LiveStore) -> None:
    store = FileStore(tmp_path / "models")

    snapshot = take_in_subprocess(live, store_url=store.url, cluster_id=CLUSTER)

    assert snapshot
    assert take_in_subprocess(live, store_url=store.url, cluster_id=CLUSTER) is None
    assert Snapshots(store).restore(other, cluster_id=CLUSTER, readable=READABLE, marks={}) == snapshot


def test_what_the_process_meets_is_told(tmp_path: Path, live: LiveStore, other: LiveStore) -> None:
    blocked = tmp_path / "models"
    blocked.write_text("no folder")

    with pytest.raises(SnapshotError, match="there is no live state"):
        take_in_subprocess(other, store_url=(tmp_path / "elsewhere").as_uri(), cluster_id=CLUSTER)
    with pytest.raises(SnapshotError, match=r"NotADirectoryError|FileExistsError"):
        take_in_subprocess(live, store_url=blocked.as_uri(), cluster_id=CLUSTER)


@pytest.mark.parametrize("path", ["part-00000", "manifest"])
def test_one_who_is_killed_at_it_leaves_nothing_that_is_used(
    beset: Beset, live: LiveStore, other: LiveStore, path: str
) -> None:
    """SIGKILL while it tries again to write a part, or the manifest."""
    beset.fail(Kind.SLOW_DOWN, "PUT", path)
    arguments = [str(live.folder), str(live.max_bytes), "1", beset.url, CLUSTER]
    command = [sys.executable, "-m", "recsvc.snapshots.child", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | beset.environment) as process:
        wait_for(lambda: beset.faults.happened, timeout_s=60, what="the upload")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    beset.faults.planned = []

    assert beset.snapshots().restore(other, cluster_id=CLUSTER, readable=READABLE, marks={}) is None
    assert live.known("u1").profile
    assert Snapshots(beset.store).take(live, cluster_id=CLUSTER) is None, "it is still claimed"
    after_all = 10**15
    assert beset.snapshots(after_all).take(live, cluster_id=CLUSTER)
    assert len(beset.manifests()) == 1
    assert not [one for one in live.folder.iterdir() if one.name.startswith(".snapshot-")]

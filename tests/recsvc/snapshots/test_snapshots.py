"""Snapshots go to a real store and come back as they were, or not at all."""

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsvc.live_state.environment import ACTIVITY, COUNTS, ERASURES, HOURS, PROFILES, PROGRESS
from recsvc.live_state.profile import Row
from recsvc.live_state.store import LiveStore
from recsvc.snapshots.kept_snapshots import INTERVAL_MS, PREFIX, key_of
from recsvc.snapshots.snapshot import Snapshot, SnapshotError
from recsvc.snapshots.snapshots import Snapshots
from recsvc.snapshots.taking import Taking
from servicekit.storage.object_store import FileStore, ObjectStore, open_store
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.live_states import CLUSTER, NOW_MS, PLACES, READABLE, TOPIC, contents, live_state, row, users
from tests.support.s3 import new_bucket, s3_server, seaweedfs_server

pytestmark = pytest.mark.peer
SAME = (PROFILES, ACTIVITY, COUNTS, PROGRESS)


class Clock:
    """Time as a test says."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs_server(tmp_path_factory.mktemp("seaweedfs")) as environment:
        yield environment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store of each kind, empty."""
    if request.param == "file":
        return FileStore(tmp_path / "models")
    environment: dict[str, str] = request.getfixturevalue(request.param)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{new_bucket(environment)}/models")


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "models")


def take(store: ObjectStore, live: LiveStore, clock: Clock) -> Snapshot:
    snapshot = Snapshots(store, now_ms=clock).take(live, cluster_id=CLUSTER)
    assert snapshot
    return snapshot


def restore(
    store: ObjectStore, live: LiveStore, *, snapshots: Snapshots | None = None, **changes: Any
) -> Snapshot | None:
    asked: dict[str, Any] = {"cluster_id": CLUSTER, "readable": READABLE, "marks": {}} | changes
    return (snapshots or Snapshots(store, now_ms=lambda: NOW_MS)).restore(live, **asked)


def names(store: ObjectStore) -> list[str]:
    return sorted({key.removeprefix(PREFIX).split("/")[0] for key in store.list(PREFIX)})


def test_a_new_machine_has_what_was_taken(store: ObjectStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(200), marks={user_fingerprint("gone"): NOW_MS})
    snapshot = take(store, one, clock)
    two = LiveStore(tmp_path / "two")

    assert restore(store, two) == snapshot

    before, after = contents(one), contents(two)
    assert {name: before[name] for name in SAME} == {name: after[name] for name in SAME}
    assert before[HOURS].keys() == after[HOURS].keys()
    assert after[ERASURES].keys() == {user_fingerprint("gone")}
    assert two.progress() == PLACES == snapshot.places()
    assert (snapshot.records[PROFILES], snapshot.interactions, snapshot.left_out) == (200, 600, 0)
    assert sorted(one.name for one in two.folder.iterdir() if one.is_dir()) == ["store-1"]


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
rows = st.builds(
    row,
    texts,
    st.integers(NOW_MS - 10 * INTERVAL_MS, NOW_MS),
    watch_ms=st.integers(0, 2**32 - 1),
    stars=st.sampled_from([-1.0, 0.0, 4.5]),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.dictionaries(texts, st.lists(rows, min_size=1, max_size=5), max_size=6),
    erased=st.sets(texts, max_size=2),
)
def test_whatever_was_told_comes_back(tmp_path: Path, told: Mapping[str, list[Row]], erased: set[str]) -> None:
    marks = {user_fingerprint(user): NOW_MS - INTERVAL_MS for user in erased | {*[*told][:1]}}
    fresh = Path(mkdtemp(dir=tmp_path))
    one = live_state(fresh / "one", told, marks=marks)
    store, clock = FileStore(fresh / "models"), Clock()
    take(store, one, clock)
    two = LiveStore(fresh / "two")

    assert restore(store, two)

    for user in told:
        known, restored = one.known(user), two.known(user)
        assert restored.forgotten_at_ms == known.forgotten_at_ms
        assert (restored.profile and restored.profile.rows) == (known.profile and known.profile.rows)
    assert two.progress() == one.progress()
    shutil.rmtree(fresh)


def test_a_user_forgotten_before_is_not_in_it(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    told = {"erased-user": [row("watched-by-erased")], "other": [row("v1")]}
    one = live_state(tmp_path / "one", told, marks={user_fingerprint("erased-user"): NOW_MS})
    assert b"erased-user" in contents(one)[PROFILES]  # until the store is compacted

    snapshot = take(files, one, clock)

    two = LiveStore(tmp_path / "two")
    assert restore(files, two)
    assert contents(two)[PROFILES].keys() == {b"other"}
    assert snapshot.records[PROFILES] == 1


def test_marks_that_came_later_are_applied(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    told = {"a": [row("v1", NOW_MS - 10), row("v2", NOW_MS + 10)], "b": [row("v1")]}
    take(files, live_state(tmp_path / "one", told), clock)
    two = LiveStore(tmp_path / "two")

    assert restore(files, two, marks={user_fingerprint("a"): NOW_MS, user_fingerprint("b"): NOW_MS})

    known = two.known("a")
    assert known.profile
    assert [video for video, *_ in known.profile.rows] == ["v2"]
    assert known.forgotten_at_ms == NOW_MS
    assert b"b" not in contents(two)[PROFILES]
    assert len(contents(two)[ACTIVITY]) == 1


def test_marks_of_the_store_before_are_kept(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    """Also those that came while the snapshot was restored: what a worker was told is in no list yet."""
    take(files, live_state(tmp_path / "one", {"a": [row("v1")], "b": [row("v1")]}), clock)
    two = live_state(tmp_path / "two", {}, places={}, marks={user_fingerprint("a"): NOW_MS})

    assert restore(files, two)

    assert two.known("a") == (None, NOW_MS)
    assert two.known("b").profile
    assert [one.name for one in two.folder.iterdir() if one.is_dir()] == ["store-2"]


def test_one_snapshot_an_hour(store: ObjectStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    take(store, one, clock)

    assert Snapshots(store, now_ms=clock).take(one, cluster_id=CLUSTER) is None
    clock.now_ms += INTERVAL_MS
    take(store, one, clock)
    assert len(names(store)) == 2


@pytest.mark.parametrize("store", ["file", "seaweedfs"], indirect=True)  # whose conditional writes are atomic
def test_of_many_followers_one_takes_it(store: ObjectStore, tmp_path: Path, clock: Clock) -> None:
    lives = [live_state(tmp_path / str(number), users(5)) for number in range(4)]

    with ThreadPoolExecutor(4) as pool:
        taken = [*pool.map(lambda live: Snapshots(store, now_ms=clock).take(live, cluster_id=CLUSTER), lives)]

    assert sum(one is not None for one in taken) == 1
    assert len(names(store)) == 1


def test_one_who_claimed_and_died_is_followed(store: ObjectStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    assert Snapshots(store, now_ms=clock)._claim.make(clock.now_ms)

    assert Snapshots(store, now_ms=clock).take(one, cluster_id=CLUSTER) is None
    clock.now_ms += INTERVAL_MS // 3
    take(store, one, clock)


def test_few_are_kept(store: ObjectStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    taken = []
    for _ in range(5):
        taken.append(take(store, one, clock).name)
        clock.now_ms += INTERVAL_MS

    assert names(store) == taken[-3:]


def test_older_ones_go_when_a_user_was_erased_since(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    take(files, one, clock)
    with one.writing() as batch:
        batch.forget(user_fingerprint("u1"), clock.now_ms, user_id="u1")
    clock.now_ms += INTERVAL_MS

    second = take(files, one, clock)

    assert names(files) == [second.name]


def test_one_that_may_hold_an_erased_user_goes_within_the_hour(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    """Also where nobody can take another one."""
    one = live_state(tmp_path / "one", users(5))
    first = take(files, one, clock)
    with one.writing() as batch:
        batch.forget(user_fingerprint("u1"), clock.now_ms, user_id="u1")
    clock.now_ms += INTERVAL_MS - 1
    Snapshots(files, now_ms=clock).tidy(one)
    assert names(files) == [first.name]

    clock.now_ms += 1
    Snapshots(files, now_ms=clock).tidy(one)
    assert names(files) == []


def test_parts_of_one_who_died_go(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    first = take(files, one, clock)
    files.delete(key_of(first.name, "manifest"))
    assert restore(files, LiveStore(tmp_path / "two")) is None

    clock.now_ms += 2 * INTERVAL_MS
    assert names(files) == [first.name]
    second = take(files, one, clock)
    assert names(files) == [second.name]


def test_a_name_from_a_clock_that_is_ahead_stops_nobody(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    clock.now_ms += 1000 * INTERVAL_MS
    take(files, one, clock)
    clock.now_ms = NOW_MS

    take(files, one, clock)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster_id": "another"}, "cluster"),
        ({"readable": READABLE | {(TOPIC, 0): (121, 500)}}, "retention"),
        ({"readable": READABLE | {(TOPIC, 0): (0, 119)}}, "retention"),
        ({"readable": {(TOPIC, 0): (0, 500)}}, "retention"),
        ({"patience_s": 0.0}, "time"),
    ],
)
def test_what_cannot_be_gone_on_from_is_not_used(
    files: FileStore, tmp_path: Path, clock: Clock, changes: dict[str, Any], reason: str
) -> None:
    take(files, live_state(tmp_path / "one", users(5)), clock)
    two, snapshots = LiveStore(tmp_path / "two"), Snapshots(files, now_ms=clock)

    assert restore(files, two, snapshots=snapshots, **changes) is None

    assert snapshots.refused == {reason: 1}
    assert two.environment() is None


@pytest.mark.parametrize(
    ("offset", "is_used"), [(119, True), (120, False), (121, False)], ids=["behind", "as far", "further"]
)
def test_only_what_is_newer_takes_the_place_of_a_store(
    files: FileStore, tmp_path: Path, clock: Clock, offset: int, *, is_used: bool
) -> None:
    take(files, live_state(tmp_path / "one", users(5)), clock)
    two = live_state(tmp_path / "two", users(2), places=PLACES | {(TOPIC, 0): (offset, NOW_MS)})

    assert bool(restore(files, two)) is is_used

    assert len(contents(two)[PROFILES]) == (5 if is_used else 2)


def test_a_store_that_takes_too_long_to_read_has_no_snapshot(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    ticks = iter(range(0, 10_000, 100))
    snapshots = Snapshots(files, now_ms=clock, monotonic=lambda: next(ticks), max_read_s=60.0)

    with pytest.raises(SnapshotError, match="took more than 60 s"):
        snapshots.take(one, cluster_id=CLUSTER)

    assert names(files) == []
    assert [path.name for path in one.folder.iterdir() if path.name.startswith(".snapshot")] == []


def test_a_store_that_grows_too_much_meanwhile_has_no_snapshot(tmp_path: Path) -> None:
    one = live_state(tmp_path / "one", users(5))
    environment = one.environment()
    assert environment
    taking = Taking(environment, tmp_path, max_growth_bytes=100_000, monotonic=lambda: 0.0)
    with one.writing() as batch:
        for user, rows in users(2000).items():
            batch.learn(user, rows, told_ms=NOW_MS)

    with pytest.raises(SnapshotError, match="grew too much"):
        taking.run()


def test_writers_are_not_held_up(files: FileStore, tmp_path: Path, clock: Clock) -> None:
    one = live_state(tmp_path / "one", users(5))
    with one.writing() as batch:  # holds the writers' lock all the while
        batch.learn("late", [row("v1")], told_ms=NOW_MS)
        snapshot = take(files, one, clock)

    assert snapshot.records[PROFILES] == 5

"""Whatever is wrong with a snapshot, it is refused as a whole, by a name, and nothing that serves is touched."""

import hashlib
import json
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsvc.live_state.environment import COUNTS, ERASURES, HOURS, PROFILES, PROGRESS
from recsvc.live_state.keys import hour_key, partition_key, place, real, whole, within_hour
from recsvc.live_state.profile import MAX_PER_USER, Profile
from recsvc.live_state.store import LiveStore
from recsvc.snapshots.blocks import MAGIC, MAX_BLOCK_BYTES
from recsvc.snapshots.kept_snapshots import INTERVAL_MS, PREFIX, key_of
from recsvc.snapshots.snapshot import Part, Snapshot
from recsvc.snapshots.snapshots import Snapshots
from servicekit.storage.object_store import FileStore
from tests.recsvc.support.live_states import CLUSTER, HOUR, NOW_MS, READABLE, contents, live_state, row, users
from tests.recsvc.support.snapshots import NAME, PROGRESS_RECORDS, Records, forge, publish

PROGRESS_BLOCK = (PROGRESS, PROGRESS_RECORDS)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "models")


@pytest.fixture
def live(tmp_path: Path) -> LiveStore:
    return LiveStore(tmp_path / "live")


def refusals(store: FileStore, live: LiveStore) -> dict[str, int]:
    """Try to restore, and return what was refused; then the live state is what it was."""
    before = contents(live)
    snapshots = Snapshots(store, now_ms=lambda: NOW_MS)
    restored = snapshots.restore(live, cluster_id=CLUSTER, readable=READABLE, marks={})
    assert (restored is None) == (contents(live) == before)
    return dict(snapshots.refused)


def profile(*rows: Any, told_ms: int = NOW_MS) -> bytes:
    return Profile.of(rows or [row("v1")], updated_at_ms=told_ms).packed


def test_what_is_made_by_hand_is_used_when_it_is_sound(store: FileStore, live: LiveStore) -> None:
    forge(
        store,
        [
            PROGRESS_BLOCK,
            (HOURS, [(hour_key(HOUR), whole(1))]),
            (COUNTS, [(within_hour(HOUR, "v1"), real(0.5))]),
            (PROFILES, [(b"a", profile()), ("ß".encode(), profile(row("日本", NOW_MS)))]),
            (PROFILES, [("é".encode(), profile())]),
        ],
        interactions=3,
    )
    assert refusals(store, live) == {}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    one, store = live_state(folder / "live", users(30)), FileStore(folder / "models")
    assert Snapshots(store, now_ms=lambda: NOW_MS).take(one, cluster_id=CLUSTER)
    return {key: store.read(key).data for key in store.list(PREFIX)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_noticed(
    sound: dict[str, bytes], tmp_path: Path, live: LiveStore, data: st.DataObject
) -> None:
    store = FileStore(tmp_path / "models")
    key = data.draw(st.sampled_from(sorted(sound)))
    place = data.draw(st.integers(0, len(sound[key]) - 1))
    flipped = bytearray(sound[key])
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    _put(store, sound | {key: bytes(flipped)})

    assert sum(refusals(store, live).values()) == 1


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_object_that_is_cut_short_is_noticed(
    sound: dict[str, bytes], tmp_path: Path, live: LiveStore, data: st.DataObject
) -> None:
    store = FileStore(tmp_path / "models")
    key = data.draw(st.sampled_from(sorted(sound)))
    _put(store, sound | {key: sound[key][: data.draw(st.integers(0, len(sound[key]) - 1))]})

    assert sum(refusals(store, live).values()) == 1


def test_a_missing_part_is_noticed(sound: dict[str, bytes], store: FileStore, live: LiveStore) -> None:
    _put(store, {key: data for key, data in sound.items() if key.endswith("manifest")})
    assert refusals(store, live) == {"missing": 1}


def test_a_snapshot_under_another_name_is_refused(sound: dict[str, bytes], store: FileStore, live: LiveStore) -> None:
    _put(store, {f"{PREFIX}{NAME}/{key.rpartition('/')[2]}": data for key, data in sound.items()})
    assert refusals(store, live) == {"manifest": 1}


def test_the_next_older_one_takes_its_place(tmp_path: Path, store: FileStore, live: LiveStore) -> None:
    one = live_state(tmp_path / "one", users(5))
    older = Snapshots(store, now_ms=lambda: NOW_MS).take(one, cluster_id=CLUSTER)
    newer = Snapshots(store, now_ms=lambda: NOW_MS + INTERVAL_MS).take(one, cluster_id=CLUSTER)
    assert older
    assert newer
    store.delete(key_of(newer.name, "part-00000"))

    restored = Snapshots(store, now_ms=lambda: NOW_MS).restore(live, cluster_id=CLUSTER, readable=READABLE, marks={})

    assert restored == older


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format"),
        ({"keys_format": 99}, "format"),
        ({"format": 2, "offsets": None, "something": "else"}, "format"),
        ({"offsets": []}, "manifest"),
        ({"offsets": [{"topic": "../x", "partition": 0, "offset": 1, "at_ms": 1}]}, "manifest"),
        ({"offsets": [{"topic": "x", "partition": 0, "offset": -1, "at_ms": 1}]}, "manifest"),
        ({"offsets": [{"topic": "x", "partition": 0, "offset": 1e300, "at_ms": 1}]}, "manifest"),
        ({"created_at_ms": True}, "manifest"),
        ({"cluster_id": "a b"}, "manifest"),
        ({"parts": []}, "manifest"),
        ({"parts": [{"size": 10, "sha256": "../../etc"}]}, "manifest"),
        ({"records": {PROFILES: -1}}, "manifest"),
        ({"raw_bytes": 2**52}, "size"),
    ],
)
def test_a_manifest_that_cannot_be(store: FileStore, live: LiveStore, changes: dict[str, Any], reason: str) -> None:
    snapshot = forge(store, [PROGRESS_BLOCK])
    line = json.dumps(json.loads(snapshot.encode().splitlines()[0]) | changes).encode()
    publish(store, _with_checksum(line))

    assert refusals(store, live) == {reason: 1}


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": NaN}'])
def test_a_manifest_that_is_none(store: FileStore, live: LiveStore, line: bytes) -> None:
    publish(store, _with_checksum(line))
    assert refusals(store, live) == {"manifest": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"records": {PROGRESS: 3, PROFILES: 2}}, "count"),
        ({"records": {}}, "count"),
        ({"interactions": 5}, "count"),
        ({"raw_bytes": 1}, "size"),
        ({"raw_bytes": 100_000}, "count"),
        ({"sha256": "0" * 64}, "checksum"),
    ],
)
def test_a_manifest_that_does_not_fit_its_parts(
    store: FileStore, live: LiveStore, changes: dict[str, Any], reason: str
) -> None:
    forge(store, [PROGRESS_BLOCK, (PROFILES, [(b"u", profile())])], **{"interactions": 1} | changes)
    assert refusals(store, live) == {reason: 1}


def test_offsets_that_are_not_those_of_the_records(store: FileStore, live: LiveStore) -> None:
    topic, partition = "feed.interactions.v1", 0
    records = [(partition_key(topic, partition), place(1, NOW_MS)), *PROGRESS_RECORDS[1:]]
    forge(store, [(PROGRESS, records)])
    assert refusals(store, live) == {"offsets": 1}


def test_a_database_of_a_later_release_is_passed_over(store: FileStore, live: LiveStore) -> None:
    forge(store, [("blocks", [(b"k", b"v")]), PROGRESS_BLOCK, ("catalogue", [(b"k", b"v" * 9000)])])
    assert refusals(store, live) == {}
    assert "blocks" not in contents(live)


LONG = b"u" * 129
HOSTILE: dict[str, tuple[str, Records, str]] = {
    "a key longer than LMDB's": (PROFILES, [(b"u" * 512, profile())], "size"),
    "a long user": (PROFILES, [(LONG, profile())], "record"),
    "an empty key": (PROFILES, [(b"", profile())], "size"),
    "control characters": (PROFILES, [(b"a\nb", profile())], "record"),
    "a user that is no UTF-8": (PROFILES, [(b"\xff", profile())], "record"),
    "a large value": (PROFILES, [(b"u", b"x" * 300_000)], "size"),
    "no profile": (PROFILES, [(b"u", b"x" * 300)], "record"),
    "an empty profile": (PROFILES, [(b"u", b"")], "record"),
    "an unknown type": (PROFILES, [(b"u", profile(("v1", 200, NOW_MS, 0, -1.0)))], "record"),
    "an impossible time": (PROFILES, [(b"u", profile(row("v1", 2**62)))], "record"),
    "an impossible time of telling": (PROFILES, [(b"u", profile(told_ms=-(2**63)))], "record"),
    "times backwards": (PROFILES, [(b"u", profile(row("a", NOW_MS), row("b", NOW_MS - 1)))], "record"),
    "no number": (PROFILES, [(b"u", profile(row("v1", stars=float("nan"))))], "record"),
    "an infinite number": (PROFILES, [(b"u", profile(row("v1", stars=float("inf"))))], "record"),
    "an empty video": (PROFILES, [(b"u", profile(row("")))], "record"),
    "a long video": (PROFILES, [(b"u", profile(row("v" * 129)))], "record"),
    "a video with zero bytes": (PROFILES, [(b"u", profile(row("a\0b")))], "record"),
    "too many interactions": (PROFILES, [(b"u", profile(*[row("v")] * (MAX_PER_USER + 1)))], "record"),
    "keys backwards": (PROFILES, [(b"b", profile()), (b"a", profile())], "order"),
    "a key twice": (PROFILES, [(b"a", profile()), (b"a", profile())], "order"),
    "a sum that is no number": (COUNTS, [(within_hour(HOUR, "v"), real(float("nan")))], "record"),
    "a negative sum": (COUNTS, [(within_hour(HOUR, "v"), real(-1.0))], "record"),
    "a sum without a video": (COUNTS, [(hour_key(HOUR), real(1.0))], "record"),
    "half an hour": (HOURS, [(b"ab", whole(1))], "record"),
    "a negative count of changes": (HOURS, [(hour_key(HOUR), whole(-1))], "record"),
    "a short mark": (ERASURES, [(b"abc", b"x")], "record"),
    "a mark without a time": (ERASURES, [(b"m" * 16, b"x")], "record"),
    "no partition": (PROGRESS, [(b"topic", place(1, 1))], "record"),
    "a partition that is no number": (PROGRESS, [(b"topic\x00x", place(1, 1))], "record"),
    "a negative offset": (PROGRESS, [(partition_key("t", 0), place(-1, 1))], "record"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_records_are_refused(store: FileStore, live: LiveStore, what: str) -> None:
    database, records, reason = HOSTILE[what]
    blocks = [(database, records)] if database == PROGRESS else [PROGRESS_BLOCK, (database, records)]
    forge(store, blocks, interactions=len(records))
    assert refusals(store, live) == {reason: 1}


def test_blocks_out_of_order_are_refused(store: FileStore, live: LiveStore) -> None:
    forge(store, [(PROFILES, [(b"u", profile())]), PROGRESS_BLOCK], interactions=1)
    assert refusals(store, live) == {"order": 1}


@pytest.mark.parametrize(
    ("claimed", "count", "reason"),
    [(1000, 1, "size"), (MAX_BLOCK_BYTES, 1, "size"), (2**32 - 1, 1, "size"), (1000, 2**32 - 1, "size")],
)
def test_what_grows_without_end_is_not_let(
    store: FileStore, live: LiveStore, claimed: int, count: int, reason: str
) -> None:
    packed = zlib.compress(bytes(64 << 20), 9)  # a thousandth of it
    head = struct.pack("<16sIII", PROFILES.encode(), count, claimed, len(packed))
    part = MAGIC + head + struct.pack("<I", zlib.crc32(packed, zlib.crc32(head))) + packed
    _forge_part(store, part)
    assert refusals(store, live) == {reason: 1}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (b"", "format"),
        (b"PAR1", "format"),
        (MAGIC + b"x", "truncated"),
        (MAGIC + struct.pack("<16sIIII", b"profiles", 1, 10, 10, 0), "truncated"),
        (MAGIC + struct.pack("<16sIIII", b"profiles", 1, 10, 3, 0) + b"abc", "checksum"),
    ],
)
def test_a_part_that_is_none(store: FileStore, live: LiveStore, part: bytes, reason: str) -> None:
    _forge_part(store, part)
    assert refusals(store, live) == {reason: 1}


@pytest.mark.parametrize("raw", [b"", b"\0" * 6, struct.pack("<HI", 1, 2**32 - 1), struct.pack("<HI", 1, 9) + b"ab"])
def test_a_block_whose_lengths_lie(store: FileStore, live: LiveStore, raw: bytes) -> None:
    packed = zlib.compress(raw)
    head = struct.pack("<16sIII", PROFILES.encode(), 1, len(raw), len(packed))
    _forge_part(store, MAGIC + head + struct.pack("<I", zlib.crc32(packed, zlib.crc32(head))) + packed)
    assert set(refusals(store, live)) <= {"block", "size"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.process
def test_a_full_disk_harms_nothing_that_is_current(tmp_path: Path, store: FileStore, small_disk: Path) -> None:
    one = live_state(tmp_path / "one", users(5))
    taken = Snapshots(store, now_ms=lambda: NOW_MS).take(one, cluster_id=CLUSTER)
    assert taken
    two = LiveStore(small_disk / "live")
    with two.turn():
        two.make_current(two.create())
    with two.writing() as batch:
        batch.learn("here", [row("v1")], told_ms=NOW_MS)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))

    assert refusals(store, two) == {"store": 1}

    assert two.known("here").profile
    filler.unlink()
    assert refusals(store, two) == {}
    assert two.known("u1").profile


def _put(store: FileStore, objects: dict[str, bytes]) -> None:
    for key, data in objects.items():
        path = store.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _with_checksum(line: bytes) -> bytes:
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def _forge_part(store: FileStore, part: bytes) -> Snapshot:
    digest = hashlib.sha256(part).hexdigest()
    snapshot = forge(
        store, [PROGRESS_BLOCK], parts=[Part(size=len(part), sha256=digest)], sha256=digest, raw_bytes=10**9
    )
    _put(store, {key_of(NAME, "part-00000"): part})
    return snapshot

"""Snapshots made by hand, as a hostile hand would."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recsvc.live_state.environment import COUNTS, ERASURES, HOURS, PROFILES, PROGRESS
from recsvc.live_state.keys import partition_key, place
from recsvc.snapshots.blocks import PartWriter, part_name
from recsvc.snapshots.kept_snapshots import key_of
from recsvc.snapshots.snapshot import Offset, Snapshot
from servicekit.storage.object_store import ObjectStore
from tests.recsvc.support.live_states import CLUSTER, NOW_MS, PLACES

Records = list[tuple[bytes, bytes]]
NAME = f"{NOW_MS:016d}-0123456789abcdef"
PROGRESS_RECORDS: Records = sorted((partition_key(*one), place(*where)) for one, where in PLACES.items())


def forge(store: ObjectStore, blocks: Iterable[tuple[str, Records]], **changes: Any) -> Snapshot:
    """Put a snapshot of these blocks into a store, with a manifest that fits them but for the changes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        writer = PartWriter(folder)
        records = dict.fromkeys((PROGRESS, ERASURES, HOURS, COUNTS, PROFILES), 0)
        for database, block in blocks:
            writer.write(database, [key for key, _ in block], [value for _, value in block])
            records[database] = records.get(database, 0) + len(block)
        writer.close()
        fields: dict[str, Any] = {
            "name": NAME,
            "created_at_ms": NOW_MS,
            "cluster_id": CLUSTER,
            "offsets": [
                Offset(topic=topic, partition=partition, offset=offset, at_ms=at_ms)
                for (topic, partition), (offset, at_ms) in PLACES.items()
            ],
            "records": records,
            "interactions": 0,
            "raw_bytes": writer.raw_bytes,
            "left_out": 0,
            "marks_sha256": "0" * 64,
            "parts": writer.parts,
            "sha256": writer.sha256(),
        }
        snapshot = Snapshot(**fields | changes)
        for number in range(len(writer.parts)):
            store.upload(folder / part_name(number), key_of(snapshot.name, part_name(number)))
        publish(store, snapshot.encode())
        return snapshot


def publish(store: ObjectStore, manifest: bytes, name: str = NAME) -> None:
    """Put a manifest into a store, in the place of any before it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "manifest"
        path.write_bytes(manifest)
        store.upload(path, key_of(name, path.name))

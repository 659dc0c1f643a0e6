"""Rewrites exports without rows of erased users: training leaves these out anyway, but the files still hold them.

Each file is replaced as a whole, under its name and with its schema, so that whoever reads meanwhile sees the one or
the other, and running it again after a crash ends what was begun. Files are found by their names, never by a pattern.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrain.data.exports import list_days
from servicekit.storage.object_store import ObjectStore
from servicekit.user_fingerprint import user_fingerprint

USER: Final = "userId"
TIME: Final = "timestamp"
BATCH_ROWS: Final = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """The result for a file: the number of rows of erased users, or what is wrong with the file."""

    day: date
    key: str
    rows: int = 0
    problem: str = ""


def forget(store: ObjectStore, erased: Mapping[bytes, int], *, dry_run: bool = False) -> Iterator[Rewritten]:
    """Rewrite the files that hold rows of erased users; yield each of these, and each unreadable file.

    Args:
        store: The folder of the days.
        erased: Fingerprints, and the times (milliseconds since 1970) up to which all is forgotten.
        dry_run: Count, and change nothing.
    """
    for one in list_days(store):
        for key in one.keys:
            with tempfile.TemporaryDirectory(prefix="forget-") as folder:
                try:
                    rows = _forget_in_file(store, key, erased, Path(folder), dry_run=dry_run)
                except (pa.ArrowException, ValueError, KeyError) as error:  # the other files are rewritten all the same
                    yield Rewritten(day=one.day, key=key, problem=" ".join(str(error).split()))
                    continue
            if rows:
                yield Rewritten(day=one.day, key=key, rows=rows)


def _forget_in_file(store: ObjectStore, key: str, erased: Mapping[bytes, int], folder: Path, *, dry_run: bool) -> int:
    """Return the number of rows that were, or would be, removed from a file."""
    old, new = folder / "old.parquet", folder / "new.parquet"
    store.download(key, old)
    gone = 0
    with pq.ParquetFile(old) as source:
        if not {USER, TIME} <= set(source.schema_arrow.names):
            raise ValueError(f"it has no columns {USER} and {TIME}")
        with pq.ParquetWriter(new, source.schema_arrow, compression="zstd") as target:
            for batch in source.iter_batches(BATCH_ROWS):
                kept = _kept(batch, erased)
                gone += len(kept) - int(kept.sum())
                target.write_batch(batch.filter(pa.array(kept)))
    if gone and not dry_run:
        store.upload(new, key)
    return gone


def _kept(batch: Any, erased: Mapping[bytes, int]) -> NDArray[np.bool_]:
    """Return which rows are kept: those of other users, and those later than the user's erasure."""
    users = batch.column(batch.schema.get_field_index(USER)).to_pylist()
    until = {user: erased.get(user_fingerprint(str(user))) for user in {*users} if user is not None}
    kept = np.ones(len(users), dtype=np.bool_)
    marked = [row for row, user in enumerate(users) if until.get(user) is not None]
    if marked:
        times = batch.column(batch.schema.get_field_index(TIME)).take(pa.array(marked)).to_pylist()
        for row, time in zip(marked, times, strict=True):
            at_ms = _milliseconds(time)
            kept[row] = at_ms is not None and at_ms > (until[users[row]] or 0)
    return kept


def _milliseconds(time: object) -> float | None:
    """Return an instant in milliseconds since 1970; None for an invalid one, which does not count as later."""
    try:
        instant = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return instant.timestamp() * 1000

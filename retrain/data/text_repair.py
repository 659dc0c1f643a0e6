"""Rewrites a parquet file without text that is not UTF-8, which DuckDB refuses to read.

One such value ends the reading of its file, so it must not reach the database. It becomes empty, which is no identifier
and no type of interaction: its row is then set aside and counted with the others that are broken.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types


def mend(path: Path, columns: Iterable[str], target: Path) -> dict[str, int]:
    """Write some columns of a file to another file and return the number of emptied values by column.

    Args:
        path: The file.
        columns: Its columns that are wanted; one that it lacks is done without.
        target: The new file.

    Raises:
        pyarrow.ArrowException: The file is damaged.
        OSError: Likewise, or disk or file system fail.
    """
    emptied: dict[str, int] = {}
    with pq.ParquetFile(path) as file:
        kept = [name for name in columns if name in file.schema_arrow.names]
        schema = pa.schema([(name, _plain(file.schema_arrow.field(name).type)) for name in kept])
        with pq.ParquetWriter(target, schema) as writer:
            for batch in file.iter_batches(columns=kept):
                mended = []
                for name, field in zip(kept, schema, strict=True):
                    array, count = _mended(batch.column(name), field.type)
                    mended.append(array)
                    if count:
                        emptied[name] = emptied.get(name, 0) + count
                writer.write_batch(pa.RecordBatch.from_arrays(mended, schema=schema))
    return emptied


def _plain(kind: Any) -> Any:
    """Return the type that a column is written as."""
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if _is_text(kind) else kind


def _is_text(kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _mended(array: Any, kind: Any) -> tuple[Any, int]:
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_list(kind):
        lists = array.cast(pa.list_(array.type.value_type))
        values, count = _mended(lists.flatten(), kind.value_type)
        return pa.ListArray.from_arrays(_offsets(lists), values, mask=lists.is_null()), count
    if not types.is_string(kind):
        return array, 0
    try:
        return array.cast(pa.large_binary()).cast(kind), 0
    except pa.ArrowInvalid:
        texts = [None if one is None else _text(one) for one in array.cast(pa.large_binary()).to_pylist()]
        return pa.array(["" if text is _BAD else text for text in texts], kind), texts.count(_BAD)


def _offsets(lists: Any) -> Any:
    lengths = [length or 0 for length in lists.value_lengths().to_pylist()]
    offsets = [0]
    for length in lengths:
        offsets.append(offsets[-1] + length)
    return pa.array(offsets, pa.int32())


_BAD: Any = object()


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _BAD

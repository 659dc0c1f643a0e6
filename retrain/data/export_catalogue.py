"""The catalogue of the bridge as `videos.parquet`, laid out as training reads it, with further columns.

Rows are streamed from a server-side cursor, so memory does not grow with the catalogue.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from retrain.data.input_files import CATALOGUE_FILE
from retrain.postgres import CONNECT_S
from servicekit.storage.object_store import ObjectStore

BATCH_ROWS: Final = 5_000
TEXTS: Final = pa.list_(pa.string())
SCHEMA: Final = pa.schema(
    [
        ("videoId", pa.string()),
        ("authorId", pa.string()),
        ("tags", TEXTS),
        ("durationMs", pa.int64()),
        ("uploadDate", pa.string()),
        ("language", pa.string()),
        ("expiresAt", pa.string()),
        ("allowedCountries", TEXTS),
        ("deniedCountries", TEXTS),
        ("ageRating", pa.int32()),
        ("attributes", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("hidden", pa.bool_()),
    ]
)
_INSTANT: Final = """
CASE WHEN {0} BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 00:00Z'
    THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END
"""
_ROWS: Final = f"""
SELECT video_id, author_id, array_remove(tags, NULL), duration_ms, {_INSTANT.format("published_at")}, language_code,
    {_INSTANT.format("expires_at")}, allowed_countries, denied_countries, age_rating, attributes::text, embedding,
    coalesce(seen.hidden, false) OR coalesce(by_author.hidden, false)
FROM videos
LEFT JOIN video_visibility AS seen USING (video_id)
LEFT JOIN author_visibility AS by_author USING (author_id)
ORDER BY video_id
"""


def export_catalogue(conninfo: str, store: ObjectStore) -> int:
    """Write all videos to the catalogue's file, those that are hidden marked; return how many there are.

    A catalogue without any video replaces nothing.

    Args:
        conninfo: The database of the bridge.
        store: The folder of the catalogue.

    Raises:
        psycopg.Error: The database cannot be read.
    """
    count = 0
    with (
        tempfile.TemporaryDirectory(prefix="export-") as folder,
        psycopg.connect(conninfo, connect_timeout=CONNECT_S, prepare_threshold=None) as connection,
    ):
        connection.read_only = True
        path = Path(folder) / CATALOGUE_FILE
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for batch in _batches(connection):
                writer.write_batch(batch)
                count += batch.num_rows
        if count:
            store.upload(path, CATALOGUE_FILE)
    return count


def _batches(connection: "psycopg.Connection[Any]") -> Iterator[pa.RecordBatch]:
    with connection.cursor(name="export_catalogue") as cursor:
        cursor.itersize = BATCH_ROWS
        cursor.execute(_ROWS)
        while rows := cursor.fetchmany(BATCH_ROWS):
            columns = zip(*rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

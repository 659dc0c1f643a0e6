"""Generates a feed of any size by DuckDB straight into parquet: no row ever is a Python object.

Popularity follows Zipf's law, users are unequally active, and six in ten exposures are of the user's own kind of
video, so that there is something to learn. Users grow with the interactions, videos with their square root.
"""

from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

from retrain.data.exports import MARKER

FIRST: Final = date(2026, 3, 1)
PER_USER: Final = 20
TASTES: Final = 32

DAY: Final = """
COPY (
    WITH drawn AS (
        SELECT least({users} - 1, floor({users} * pow(random(), 1.5)))::BIGINT AS user,
            random() AS popular, random() AS taste, random() AS kind, random() AS time
        FROM range({rows})
    ),
    shown AS (SELECT *, floor(pow({videos}, popular))::BIGINT - 1 AS rank FROM drawn)
    SELECT
        printf('u%08d', user) AS "userId",
        printf('v%07d', CASE WHEN taste < 0.6
            THEN least({videos} - 1, rank - rank % {tastes} + hash(user) % {tastes}) ELSE rank END) AS "videoId",
        CASE WHEN kind < 0.55 THEN 'watch' WHEN kind < 0.9 THEN 'impression' WHEN kind < 0.98 THEN 'like'
            ELSE 'share' END AS "interactionType",
        CASE WHEN kind < 0.55 THEN (kind * time * 60000)::BIGINT ELSE 0 END AS "watchTime",
        strftime(TIMESTAMP '{day}' + to_milliseconds((time * 86399000)::BIGINT), '%Y-%m-%dT%H:%M:%S.%gZ') AS "timestamp"
    FROM shown
) TO '{file}' (FORMAT parquet, COMPRESSION zstd)
"""
VIDEOS: Final = """
COPY (
    SELECT printf('v%07d', i) AS "videoId", printf('a%06d', hash(i) % greatest(1, {videos} // 5)) AS "authorId",
        ['t' || (i % {tastes}), 'x' || (hash(i) % 100)] AS "tags", (5000 + hash(i * 7) % 60000)::BIGINT AS "durationMs",
        '2026-02-01' AS "uploadDate"
    FROM range({videos}) AS r (i)
) TO '{file}' (FORMAT parquet)
"""


def generate(interactions: int, folder: Path, *, threads: int, days: int = 7) -> None:
    """Write the exports and the catalogue of about so many interactions, the same ones each time on one thread."""
    sizes: dict[str, int] = {
        "users": max(1, interactions // PER_USER),
        "videos": round(20 * interactions**0.5),
        "tastes": TASTES,
    }
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": "2GiB",
        "threads": threads,
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=config) as engine:
        engine.execute("SELECT setseed(0.5)")
        for day in (FIRST + timedelta(days=number) for number in range(days)):
            exports = folder / "exports" / str(day)
            exports.mkdir(parents=True)
            file = exports / "interactions-0000.parquet"
            engine.execute(DAY.format(rows=interactions // days, day=day, file=file, **sizes))
            (exports / MARKER).touch()
        engine.execute(VIDEOS.format(file=folder / "videos.parquet", **sizes))

"""The ranking of KuaiRand's week by the formula of now beside that of before, which aggregated the window's rows."""

import asyncio
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from benchmarks.report import Row
from bridge.postgres.migrate import migrate
from bridge.postgres.pool import Database
from bridge.trending.query import TrendingPolicy, compute_trending
from bridge.trending.roller import CountingPolicy, Roller
from deploy.local.data_folder import DataSet
from deploy.local.postgres import Postgres
from deploy.local.seed_history import seed

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "kuairand"
FIRST: Final = (20, 100, 500)

# Each user counted once for a video, by the strongest thing done to it, as of the last time.
_BEFORE: Final = """
WITH weights (interaction_type, weight) AS (
    VALUES ('impression', 0.05), ('watch', 1.0), ('complete', 2.0), ('like', 3.0), ('follow', 2.0), ('comment', 3.0),
           ('share', 4.0), ('favorite', 3.0), ('rating', 3.0), ('search', 1.0), ('skip', -0.5), ('hide', -2.0)
), newest AS (
    SELECT max(occurred_at) AS newest FROM user_interactions
), deeds AS (
    SELECT video_id, user_id, weight::float8 AS weight, extract(epoch FROM newest - occurred_at)::float8 AS age_s,
        CASE interaction_type
            WHEN 'watch' THEN least(1, watch_time_ms / (
                CASE WHEN duration_ms > 0 THEN duration_ms ELSE 30000 END)::float8)
            ELSE 1 END AS share
    FROM newest, user_interactions JOIN weights USING (interaction_type) JOIN videos USING (video_id)
    WHERE occurred_at > newest - interval '7 days'
), users AS (
    SELECT video_id, user_id, (greatest(0, max(weight * share)) + least(0, min(weight)))
        * exp(-ln(2.0::float8) * least(100, min(age_s) / 86400)) AS weight
    FROM deeds GROUP BY video_id, user_id
)
SELECT video_id FROM users GROUP BY video_id HAVING sum(weight) > 0 ORDER BY sum(weight) DESC, video_id
"""


def run() -> dict[str, list[Row]]:
    """Return the table; empty without the data set."""
    if not DATA.is_dir():
        return {"The data set is not beside the repository": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)  # Postgres may run as somebody else
        postgres = Postgres(folder / "postgres", durable=False)
        stack.callback(postgres.stop)
        url = postgres.start()
        migrate(url)
        seed(url, DataSet(DATA))
        with psycopg.connect(url) as connection:
            before = [row[0] for row in connection.execute(_BEFORE).fetchall()]
        now = asyncio.run(_now(url))
    rows: list[Row] = [
        {
            "first": first,
            "of both": len({*before[:first]} & {*now[:first]}),
            "share": round(len({*before[:first]} & {*now[:first]}) / first, 3),
        }
        for first in FIRST
    ]
    return {"Videos that both formulas have among their first": rows}


async def _now(url: str) -> list[str]:
    database = Database(url)
    await database.open()
    database.ready.set()
    await Roller(database, CountingPolicy(window_h=168, half_life_s=86_400, enough=500)).catch_up()
    trending = await compute_trending(database, TrendingPolicy(), datetime.now(UTC))
    await database.close()
    return [video.ranked.video_id for video in trending.videos]

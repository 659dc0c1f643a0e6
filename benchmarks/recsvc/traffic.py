"""Builds feeds of real traffic in which some users are new: absent, or known by a few interactions only.

A newcomer's interactions are the last ones that the user did before an instant. Of those from before the exports only
the order is known: a watch there is taken as a long one where the history says so, else as a click, and a like follows
its watch. Impressions are left out, as they say nothing of taste.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recsvc.domain.interaction import LONG_WATCH_MS, Interaction, InteractionType

Told: TypeAlias = Mapping[str, Sequence[Interaction]]
"""Interactions by user, oldest first."""

_DONE: Final = """
CREATE TABLE done AS
WITH past AS (
    SELECT
        "userId" AS user_id, unnest("watched") AS video_id, "liked", "longWatched",
        epoch_ms("lastWatchedAt") - 2 * unnest(range(len("watched"), 0, -1)) AS at_ms
    FROM read_parquet($history)
)
SELECT
    user_id, video_id, 'watch' AS kind, at_ms,
    CASE WHEN list_contains("longWatched", video_id) THEN $long_watch_ms ELSE 0 END AS watch_ms
FROM past
UNION ALL
SELECT user_id, video_id, 'like', at_ms + 1, 0 FROM past WHERE list_contains("liked", video_id)
UNION ALL
SELECT "userId", "videoId", "interactionType", epoch_ms("timestamp"::TIMESTAMPTZ), "watchTime"
FROM read_parquet($exports)
WHERE "interactionType" <> 'impression'
"""
_LAST: Final = """
SELECT user_id, video_id, kind, at_ms, watch_ms
FROM done
WHERE at_ms >= $since_ms AND at_ms < $until_ms
QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY at_ms DESC, kind, video_id) <= $most
ORDER BY user_id, at_ms, kind DESC, video_id DESC
"""
_KEPT: Final = 'SELECT * FROM read_parquet($file) WHERE "userId" NOT IN (SELECT unnest($without))'


class Traffic:
    """Real interactions, and feeds made of a part of them.

    Args:
        data: Folder of exports, history and catalogue.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._exports = sorted(data.glob("exports/*/*.parquet"))
        self._database = duckdb.connect()
        self._database.execute("SET enable_progress_bar = false")
        self._database.execute(
            _DONE,
            {
                "history": str(data / "history.parquet"),
                "exports": [str(path) for path in self._exports],
                "long_watch_ms": LONG_WATCH_MS,
            },
        )

    def told(self, until: datetime, *, since: datetime | None = None, most: int = 1000) -> Told:
        """Return the last interactions of each user who had any before an instant, at most so many of each."""
        arguments = {"since_ms": _ms(since) if since else 0, "until_ms": _ms(until), "most": most}
        told: dict[str, list[Interaction]] = {}
        for user, video, kind, at_ms, watch_ms in self._database.execute(_LAST, arguments).fetchall():
            told.setdefault(user, []).append(Interaction(video, InteractionType(kind), at_ms, watch_ms))
        return told

    def feed(self, folder: Path, *, without: Sequence[str], told: Told) -> Path:
        """Write a feed without some users, and with only the given interactions of others; return its folder."""
        for file in (*self._exports, self._data / "history.parquet"):
            target = folder / file.relative_to(self._data)
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = self._database.sql(_KEPT, params={"file": str(file), "without": list(without)})
            pq.write_table(kept.to_arrow_table(), target)
        if told:
            first = folder / self._exports[0].relative_to(self._data)
            pq.write_table(_table(told), first.with_name("told.parquet"))
        (folder / "videos.parquet").symlink_to(self._data / "videos.parquet")
        return folder


def _table(told: Told) -> pa.Table:
    rows = [(user, one) for user, interactions in told.items() for one in interactions]
    return pa.table(
        {
            "userId": [user for user, _ in rows],
            "videoId": [one.video_id for _, one in rows],
            "interactionType": [one.kind.value for _, one in rows],
            "watchTime": [one.watch_ms for _, one in rows],
            "timestamp": [datetime.fromtimestamp(one.at_ms / 1000, UTC).isoformat() for _, one in rows],
        }
    )


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)

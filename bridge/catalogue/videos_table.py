"""The table `videos`: many stored at once, one or some read. Its triggers add revisions and outbox rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from bridge.catalogue.video import Video
from bridge.postgres.pool import Connection

LIST_TIMEOUT_MS: Final = 3000

_COLUMNS: Final = """
author_id, tags, language_code, duration_ms, published_at, expires_at, allowed_countries, denied_countries, age_rating,
attributes, embedding
"""
_EXCLUDED: Final = ", ".join(f"excluded.{name.strip()}" for name in _COLUMNS.split(","))
_VIDEOS: Final = ", ".join(f"videos.{name.strip()}" for name in _COLUMNS.split(","))
# Sorted, so that two of these wait for each other in one order.
_UPSERT: Final = f"""
WITH given AS (
    SELECT * FROM json_to_recordset(%s) AS one (
        video_id text, author_id text, tags text[], language_code text, duration_ms bigint, published_at timestamptz,
        expires_at timestamptz, allowed_countries text[], denied_countries text[], age_rating integer, attributes jsonb,
        embedding real[]
    )
), written AS (
    INSERT INTO videos (video_id, {_COLUMNS}) SELECT video_id, {_COLUMNS} FROM given ORDER BY video_id
    ON CONFLICT (video_id) DO UPDATE SET ({_COLUMNS}) = ROW ({_EXCLUDED})
        WHERE ({_VIDEOS}) IS DISTINCT FROM ({_EXCLUDED})
    RETURNING video_id, revision, xmax = 0 AS created
)
SELECT given.video_id, coalesce(written.revision, videos.revision), written.created
FROM given LEFT JOIN written USING (video_id) LEFT JOIN videos USING (video_id)
"""  # noqa: S608  # its parts are constants
_REVISIONS: Final = "SELECT video_id, coalesce(revision, 0) FROM videos WHERE video_id = ANY(%s)"
_LENGTH: Final = "SELECT embedding_length FROM catalogue_shape"
_SET_LENGTH: Final = "INSERT INTO catalogue_shape (embedding_length) VALUES (%s) ON CONFLICT DO NOTHING"
_READ: Final = f"""
SELECT one.video_id, coalesce(videos.revision, 0), {_VIDEOS},
    seen.hidden, seen.reason, seen.actor, seen.since, seen.hide_revision,
    by_author.hidden, by_author.reason, by_author.actor, by_author.since, by_author.hide_revision
FROM unnest(%s::text[]) WITH ORDINALITY AS one (video_id, place)
LEFT JOIN videos USING (video_id)
LEFT JOIN video_visibility AS seen ON seen.video_id = one.video_id
LEFT JOIN author_visibility AS by_author ON by_author.author_id = videos.author_id
WHERE videos.video_id IS NOT NULL OR seen.hide_revision IS NOT NULL
ORDER BY one.place
"""  # noqa: S608  # its parts are constants
_HIDDEN_AUTHOR: Final = """
(author_id IS NOT NULL
 AND EXISTS (SELECT FROM author_visibility AS a WHERE a.author_id = videos.author_id AND a.hidden))
"""
_BY_AUTHOR: Final = "(%(author_id)s = '' OR author_id = %(author_id)s)"
# All of it is read in the order of ids, no further than a page, or else by author.
_ALL: Final = f"""
SELECT video_id FROM videos WHERE video_id > %(after)s AND {_BY_AUTHOR} ORDER BY video_id LIMIT %(most)s
"""  # noqa: S608  # its parts are constants
_SHOWN: Final = f"""
SELECT video_id FROM videos
WHERE video_id > %(after)s AND {_BY_AUTHOR} AND NOT {_HIDDEN_AUTHOR}
    AND NOT EXISTS (SELECT FROM video_visibility AS v WHERE v.video_id = videos.video_id AND v.hidden)
ORDER BY video_id LIMIT %(most)s
"""  # noqa: S608  # its parts are constants
_HIDDEN: Final = f"""
SELECT video_id FROM (
    (SELECT seen.video_id FROM video_visibility AS seen LEFT JOIN videos USING (video_id)
     WHERE seen.hidden AND seen.video_id > %(after)s AND (%(author_id)s = '' OR videos.author_id = %(author_id)s)
     ORDER BY seen.video_id LIMIT %(most)s)
    UNION
    (SELECT videos.video_id FROM author_visibility AS a JOIN videos USING (author_id)
     WHERE a.hidden AND videos.video_id > %(after)s AND {_BY_AUTHOR} ORDER BY videos.video_id LIMIT %(most)s)
) AS found ORDER BY video_id LIMIT %(most)s
"""  # noqa: S608  # its parts are constants


class Change(Enum):
    """The outcome of an upsert for a video."""

    CREATED = auto()
    UPDATED = auto()
    UNCHANGED = auto()


class Shown(Enum):
    """Filters of a list, each with its query."""

    ALL = _ALL
    HIDDEN = _HIDDEN
    SHOWN = _SHOWN


@dataclass(frozen=True, slots=True)
class Upserted:
    """A video that was stored: its revision now, and the outcome."""

    revision: int
    change: Change


@dataclass(frozen=True, slots=True)
class Hide:
    """A hide as it is stored."""

    reason: str
    actor: str
    since: datetime | None
    revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A video with all that is stored of it; of one that is not in the catalogue the id only, and revision 0."""

    video: Video
    revision: int
    hidden: Hide | None = None
    author_hidden: Hide | None = None


async def upsert(connection: Connection, videos: Sequence[Video]) -> dict[str, Upserted]:
    """Store videos with different ids; return the outcome of each."""
    given = json.dumps([video.row() for video in videos], ensure_ascii=False, separators=(",", ":"))
    rows = await (await connection.execute(_UPSERT, [given])).fetchall()
    found = {video_id: Upserted(revision or 0, _change(created)) for video_id, revision, created in rows}
    # Another call may have stored the same a moment ago, which a statement that began before does not see.
    if unseen := [video_id for video_id, one in found.items() if not one.revision]:
        rows = await (await connection.execute(_REVISIONS, [unseen])).fetchall()
        found |= {video_id: Upserted(revision, Change.UNCHANGED) for video_id, revision in rows}
    return found


def _change(created: bool | None) -> Change:  # noqa: FBT001  # as the row has it
    if created is None:
        return Change.UNCHANGED
    return Change.CREATED if created else Change.UPDATED


async def embedding_length(connection: Connection, wanted: int) -> int:
    """Return how many numbers each embedding has; as many as are wanted, from then on, where there is none yet."""
    for _ in range(2):
        row = await (await connection.execute(_LENGTH)).fetchone()
        if row is not None:
            break
        await connection.execute(_SET_LENGTH, [wanted])
    return int(row[0]) if row else wanted


async def forget_embeddings(connection: Connection) -> int:
    """Forget the embeddings of all videos, so that others may be of another length; return how many there were."""
    cursor = await connection.execute("UPDATE videos SET embedding = NULL WHERE embedding IS NOT NULL")
    await connection.execute("DELETE FROM catalogue_shape")
    return cursor.rowcount


async def read(connection: Connection, video_ids: Sequence[str]) -> list[Entry]:
    """Return what is stored of videos, in their order; nothing of those of which nothing is."""
    rows = await (await connection.execute(_READ, [[*video_ids]])).fetchall()
    return [_entry(row) for row in rows]


async def list_ids(connection: Connection, shown: Shown, *, author_id: str, after: str, most: int) -> list[str]:
    """Return the first ids after one, in their order."""
    await connection.execute(f"SET LOCAL statement_timeout = {LIST_TIMEOUT_MS}")
    parameters: Mapping[str, object] = {"author_id": author_id, "after": after, "most": most}
    rows = await (await connection.execute(shown.value, parameters)).fetchall()
    return [row[0] for row in rows]


def _entry(row: tuple[Any, ...]) -> Entry:
    (video_id, revision, author_id, tags, language, duration_ms, published_at, expires_at, allowed, denied, age_rating,
     attributes, embedding, *hides) = row  # fmt: skip
    return Entry(
        video=Video(
            video_id=video_id,
            author_id=author_id or "",
            tags=_texts(tags),
            language=language or "",
            duration_ms=duration_ms,
            published_at=published_at,
            expires_at=expires_at,
            allowed_countries=_texts(allowed),
            denied_countries=_texts(denied),
            age_rating=age_rating,
            attributes=attributes if isinstance(attributes, dict) else {},
            embedding=tuple(embedding or ()),
        ),
        revision=revision,
        hidden=_hide(hides[:5]),
        author_hidden=_hide(hides[5:]),
    )


def _hide(row: Sequence[Any]) -> Hide | None:
    hidden, reason, actor, since, revision = row
    return Hide(reason or "", actor or "", since, revision or 0) if hidden else None


def _texts(items: Sequence[object] | None) -> tuple[str, ...]:
    return tuple([one for one in items or () if isinstance(one, str)])

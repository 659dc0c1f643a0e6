"""Takes in the file in which a former release kept what callers told of users, once.

It holds a line of JSON for each update and each erasure. Lines are read with the same care as what callers send: a file
may be damaged, or cut short by a crash.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import structlog

from recsvc.domain.interaction import MAX_RATING, Interaction, InteractionType
from recsvc.live_state.batch import NEVER, Batch
from recsvc.live_state.profile import row_of
from recsvc.live_state.store import LiveStore
from servicekit.files.replacement import sync_folder
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.json_fields import MAX_WHOLE, JsonObject
from servicekit.inputs.numbers import finite

NAME: Final = "viewers.jsonl"
"""The file, beside the models."""
MAX_LINE_BYTES: Final = 1 << 20
EARLIEST_MS: Final = -(2**53)
MAX_MARK_BYTES: Final = 64
BATCH: Final = 500
"""Entries that are written together."""
_HEADER: Final = b'{"compaction":'

logger = structlog.get_logger(__name__)

Relay: TypeAlias = Callable[[str, Sequence[Interaction], int], None]
"""Given each update: its user, what was done, and when it was told, milliseconds since 1970 UTC."""


class _Update(NamedTuple):
    user_id: str
    told_ms: int
    done: list[Interaction]


class _Erasure(NamedTuple):
    mark: bytes
    at_ms: int


def take_in(path: Path, store: LiveStore, *, keep_since_ms: int = NEVER, relay: Relay | None = None) -> int:
    """Take a file into the store and remove it; return how many of its lines were none.

    A crash on the way lets the next start begin again, which changes nothing of what was taken in. OSError, such as a
    StoreError, where the disk refuses; the file is still there then.

    Args:
        path: Of the file; nothing is done where there is none.
        store: Of which an environment is current.
        keep_since_ms: Interactions up to then are not kept, milliseconds since 1970 UTC.
        relay: Brings each update to other machines, too; None for nowhere.
    """
    if not path.exists():
        return 0
    odd = 0
    entries = _entries(path)
    while some := [*islice(entries, BATCH)]:
        known = [entry for entry in some if entry is not None]
        odd += len(some) - len(known)
        with store.writing(keep_since_ms=keep_since_ms) as batch:
            for entry in known:
                _apply(entry, batch)
        for entry in known:
            if relay and isinstance(entry, _Update):
                relay(*_told(entry))
    environment = store.environment()
    if environment is not None:
        environment.lmdb.sync(True)  # noqa: FBT003  # the client's only argument
    path.unlink()
    sync_folder(path.parent)
    logger.info("live_state.former_file_taken_in", lines_unreadable=odd)
    return odd


def _told(entry: _Update) -> tuple[str, Sequence[Interaction], int]:
    return entry.user_id, entry.done, entry.told_ms


def _apply(entry: "_Update | _Erasure", batch: Batch) -> None:
    if isinstance(entry, _Erasure):
        batch.forget(entry.mark, entry.at_ms)
    else:
        batch.learn(entry.user_id, map(row_of, entry.done), told_ms=entry.told_ms)


def _entries(path: Path) -> "Iterator[_Update | _Erasure | None]":
    """Yield what each line says, None for one that is no entry."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if line.isspace() or (file.tell() == len(line) and line.startswith(_HEADER)):
                continue
            try:
                yield _decode(line)
            except (ValueError, OverflowError, RecursionError):
                yield None


def _decode(line: bytes) -> "_Update | _Erasure":
    """Return a line's entry; ValueError for anything else."""
    fields = JsonObject(line, max_bytes=MAX_LINE_BYTES)
    if "forget" in fields:
        return _Erasure(_mark(fields.text("forget")), fields.whole("at", least=EARLIEST_MS))
    rows = fields.items("did")
    return _Update(fields.identifier("user"), fields.whole("told", least=EARLIEST_MS), [*map(_interaction, rows)])


def _mark(text: str) -> bytes:
    mark = bytes.fromhex(text)
    if not 0 < len(mark) <= MAX_MARK_BYTES:
        raise ValueError(f"a fingerprint has {len(mark)} bytes")
    return mark


def _interaction(row: Any) -> Interaction:
    if not isinstance(row, list) or len(row) != len(Interaction._fields):
        raise ValueError("an interaction is no list of its fields")
    video_id, kind, at_ms, watch_ms, rating = row
    if not isinstance(video_id, str) or identifier_problem(video_id):
        raise ValueError("a video's identifier is not valid")
    video_id.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
    stars = None if rating is None else finite(rating, least=0, most=MAX_RATING)
    return Interaction(video_id, InteractionType(kind), _whole(at_ms, EARLIEST_MS), _whole(watch_ms, 0), stars)


def _whole(value: Any, least: int) -> int:
    if type(value) is not int or not least <= value <= MAX_WHOLE:
        raise ValueError(f"{value!r} is no integer from {least} to {MAX_WHOLE}")
    return value

"""Finds exported days of interactions: which exist, which are complete, and their files on this machine."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from retrain.errors import Reason, RunError
from servicekit.storage.object_store import FileStore, ObjectStore

MARKER: Final = "_SUCCESS"
"""Name of the file that the writer of a day's folder adds last."""

_KEY: Final = re.compile(r"(?P<day>\d{4}-\d{2}-\d{2})/(?P<name>[^/]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportDay:
    """One day's folder."""

    day: date
    keys: tuple[str, ...]
    """Its parquet files, in order."""
    marked: bool
    """Whether its completion marker is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The days that a run trains on, and those of the same time that it leaves out."""

    days: tuple[ExportDay, ...]
    """Oldest first; at least one."""
    incomplete: tuple[date, ...]
    """Left out, as their marker is missing."""

    @property
    def last(self) -> date:
        """Return the last day."""
        return self.days[-1].day

    @property
    def until(self) -> datetime:
        """Return the first instant (UTC) that the window does not cover."""
        return midnight(self.last + timedelta(days=1))

    @property
    def keys(self) -> list[str]:
        """Return the keys of all days' files, in order."""
        return [key for day in self.days for key in day.keys]


def midnight(day: date) -> datetime:
    """Return the first instant of a day, UTC."""
    return datetime.combine(day, time(), UTC)


def list_days(store: ObjectStore) -> list[ExportDay]:
    """Return the days in a store, oldest first; skip objects that do not look like a day's file."""
    names: dict[date, list[str]] = {}
    for key in store.list(""):
        match = _KEY.fullmatch(key)
        day = _day(match["day"]) if match else None
        if match and day:
            names.setdefault(day, []).append(match["name"])
    return [_export_day(day, names[day]) for day in sorted(names)]


def choose_window(store: ObjectStore, *, last: date | None, length: int, marker_required: bool) -> Window:
    """Return the days to train on.

    Args:
        store: The folder of the days.
        last: The last day to use; None for the newest complete one.
        length: Days before the end that are looked back on, the last one included.
        marker_required: Leave out days that have no completion marker.

    Raises:
        RunError: There is no such day, it is not complete, or a complete day holds no file.
    """
    days = list_days(store)
    complete = [one for one in days if one.marked or not marker_required]
    _require(days, f"{store.url} holds no YYYY-MM-DD/*.parquet{_hint(store) if not days else ''}")
    _require(complete, f"no day in {store.url} is complete: {days[-1].day}/{MARKER} is missing")
    end = last or complete[-1].day
    start = end - timedelta(days=length - 1)
    chosen = tuple(one for one in complete if start <= one.day <= end)
    found = {one.day for one in days}
    _require(end in found, f"{store.url} holds no day {end}; it goes from {min(found)} to {max(found)}")
    _require(chosen and chosen[-1].day == end, f"{store.url}/{end} is not complete: {MARKER} is missing")
    for one in chosen:
        _require(one.keys, f"{store.url}/{one.day} holds no parquet file")
    used = {one.day for one in chosen}
    incomplete = tuple(
        one.day for one in days if start <= one.day and one.day not in used and (not last or one.day <= end)
    )
    return Window(days=chosen, incomplete=incomplete)


def local_copies(store: ObjectStore, keys: Iterable[str], folder: Path) -> list[Path]:
    """Return the objects as files of this machine: in place if they are local, else downloaded into the folder."""
    return [local_copy(store, key, folder) for key in keys]


def local_copy(store: ObjectStore, key: str, folder: Path) -> Path:
    """Return an object as a file of this machine; ObjectNotFoundError if it does not exist."""
    if isinstance(store, FileStore):
        return store.root / key
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    store.download(key, path)
    return path


def _export_day(day: date, names: list[str]) -> ExportDay:
    files = tuple(f"{day}/{name}" for name in sorted(names) if name.endswith(".parquet") and name[0] not in "._")
    return ExportDay(day=day, keys=files, marked=MARKER in names)


def _hint(store: ObjectStore) -> str:
    """Return where the days may be instead: one folder below is the usual mistake."""
    below = next((key.split("/")[0] for key in store.list("") if _KEY.fullmatch(key.partition("/")[2])), None)
    return f"; did you mean {store.url}/{below}?" if below else ""


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _require(condition: object, message: str) -> None:
    if not condition:
        raise RunError(Reason.EXPORTS, message)

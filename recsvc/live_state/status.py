"""The status of a folder's store against Kafka: the follower writes it each second, workers read it."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from servicekit.files.replacement import PRIVATE
from servicekit.inputs.json_fields import MAX_WHOLE, JsonObject

STATUS: Final = "status.json"
"""File of the folder."""
MAX_BYTES: Final = 1 << 20
STALE_MS: Final = 5000
"""A status that is older was left by a follower that is not at work any more."""
READ_EVERY_S: Final = 0.5
"""Seconds for which a reader goes by what it read."""


class State(StrEnum):
    """The states of the store against Kafka."""

    FOLLOWING = "following"
    """What the brokers have is there within moments."""
    CATCHING_UP = "catching_up"
    """Older records are being read."""
    BLIND = "blind"
    """Nothing can be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The state and the lag of the store at one moment.

    Attributes:
        state: In a word.
        known_until_ms: All that was in Kafka up to then is in the store, milliseconds since 1970 UTC; without Kafka,
            when the status was written.
        lags: By topic and partition, the records that are not in the store yet.
        last_record_ms: When the newest record that is in the store was written; None while there was none.
        at_ms: When the status was written.
        is_gaining: Whether the lag falls, or there is none.
    """

    state: State
    known_until_ms: int
    lags: Mapping[tuple[str, int], int] = field(default_factory=dict)
    last_record_ms: int | None = None
    at_ms: int
    is_gaining: bool = True

    def is_well(self, now_ms: int) -> bool:
        """Return whether the store follows, or will soon; a status from the future is as good as one of now."""
        return self.state is not State.BLIND and self.is_gaining and now_ms - self.at_ms <= STALE_MS


def write_status(folder: Path, status: Status) -> None:
    """Put a status in the place of the last one; a reader gets one or the other. It need not survive the machine."""
    fields = {
        "state": status.state,
        "knownUntilMs": status.known_until_ms,
        "lags": [[topic, partition, records] for (topic, partition), records in status.lags.items()],
        "lastRecordMs": status.last_record_ms,
        "atMs": status.at_ms,
        "isGaining": status.is_gaining,
    }
    beside = folder / f".{STATUS}.{os.getpid()}"
    beside.touch(mode=PRIVATE)
    beside.write_text(json.dumps(fields), encoding="utf-8")
    beside.replace(folder / STATUS)


def read_status(folder: Path) -> Status | None:
    """Return the last status; None while there is none that can be read."""
    try:
        fields = JsonObject((folder / STATUS).read_bytes(), max_bytes=MAX_BYTES)
        last_ms = fields.value("lastRecordMs")
        return Status(
            state=State(fields.text("state")),
            known_until_ms=_time(fields, "knownUntilMs"),
            lags=dict(map(_lag, fields.items("lags"))),
            last_record_ms=None if last_ms is None else _time(fields, "lastRecordMs"),
            at_ms=_time(fields, "atMs"),
            is_gaining=fields.value("isGaining") is True,
        )
    except (OSError, TypeError, ValueError):
        return None


def _time(fields: JsonObject, name: str) -> int:
    return fields.whole(name, least=-MAX_WHOLE)


def _lag(found: Any) -> tuple[tuple[str, int], int]:
    topic, partition, records = found
    return (str(topic), int(partition)), int(records)


class StatusReader:
    """Tells a worker how far the store of its folder follows; asking is cheap, and never waits for the follower.

    Args:
        folder: Of the store.
        now_ms: Milliseconds since 1970 UTC.
        clock: Seconds, ascending.
    """

    def __init__(self, folder: Path, *, now_ms: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._now_ms = now_ms
        self._clock = clock
        self._reading = threading.Lock()
        self._due = -1.0
        self._status: Status | None = None

    def status(self) -> Status | None:
        """Return the last status, of half a second ago at most; None while there is none."""
        if self._clock() >= self._due and self._reading.acquire(blocking=False):
            try:
                self._status = read_status(self._folder)
                self._due = self._clock() + READ_EVERY_S
            finally:
                self._reading.release()
        return self._status

    def known_until_ms(self) -> int | None:
        """Return the time until which all interactions are known, milliseconds since 1970 UTC; None when unknown."""
        status = self.status()
        return min(status.known_until_ms, self._now_ms()) if status else None

    def is_well(self) -> bool:
        """Return whether the store follows, or will soon."""
        status = self.status()
        return status is not None and status.is_well(self._now_ms())

"""Interactions and a catalogue, prepared as a run prepares them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrain.data.duckdb_session import DuckDbSession
from retrain.data.exports import choose_window
from retrain.data.input_files import fetch
from retrain.data.prepare import Interactions, Pairs, prepare
from servicekit.storage.object_store import FileStore
from tests.retrain.support.feeds import DAY, write_day, write_history, write_videos

HALF_LIFE = timedelta(days=1)


END = DAY + timedelta(days=1)


@contextmanager
def prepared(
    rows: Sequence[tuple[Any, ...]], *, videos: Sequence[dict[str, Any]] = (), history: Sequence[dict[str, Any]] = ()
) -> Iterator[Interactions]:
    """Yield what the rows of one day come to."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_day(folder / "exports", "2026-03-01", rows)
        if videos:
            write_videos(folder, videos)
        if history:
            write_history(folder, history)
        store = FileStore(folder / "exports")
        window = choose_window(store, last=date(2026, 3, 1), length=1, marker_required=False)
        source = fetch(window, store, FileStore(folder), folder)
        with DuckDbSession(folder, memory="200MiB", threads=2) as warehouse:
            yield prepare(source, window, warehouse)


def named(interactions: Interactions, pairs: Pairs) -> list[tuple[str, str]]:
    users, videos = interactions.users().ids(pairs.users), interactions.videos().ids(pairs.videos)
    return list(zip(users, videos, strict=True))


def weights(interactions: Interactions) -> dict[tuple[str, str], float]:
    """Return the weights at the day's end."""
    positives = interactions.positives(END, half_life=HALF_LIFE)
    return dict(zip(named(interactions, positives.pairs), positives.weights.tolist(), strict=True))


def aged(value: float, hours: float) -> float:
    """Return a value so many hours before the day's end, as float32 of 6 decimals."""
    return float(np.float32(round(value * 0.5 ** (hours / 24), 6)))

"""Tells which erasure marks nobody needs any more: those of users whom no model, snapshot or message can hold.

A mark hides what a user did up to a time. Its time must lie `MARGIN_MS` before each of these:

* `trained_at` of every model that the registry keeps: whoever trains leaves the marked out, but reads the list of them
  when the training begins, and a model that was brought from elsewhere knows no list;
* the time of every snapshot that is kept: it may have been taken before the mark was known;
* the oldest message that the followed topics may still have, of which a store is rebuilt.

Training on older exports leaves the user out by the list in the model store, from which this takes nothing.
"""

from collections.abc import Iterable
from typing import Final

from modelstore.artefact import ArtefactError
from modelstore.registry import Registry
from recsvc.live_state.batch import NEVER
from recsvc.snapshots.kept_snapshots import time_of
from servicekit.storage.object_store import ObjectNotFoundError

MARGIN_MS: Final = 7 * 86_400_000
"""Covers how long a training takes, a message waits in an outbox, and how far clocks are apart."""


def oldest_needed_ms(registry: Registry, snapshots: Iterable[str], *, now_ms: int, retention_ms: int) -> int:
    """Return the time before which no mark is needed, milliseconds since 1970 UTC; OSError when the store fails.

    It is NEVER, so that all marks stay, while a model is kept whose manifest cannot be read.

    Args:
        registry: Of the models.
        snapshots: Names of all snapshots that are kept.
        now_ms: The time, milliseconds since 1970 UTC.
        retention_ms: How long the followed topics keep a message; the longer of both.
    """
    times = [now_ms - retention_ms, *map(time_of, snapshots)]
    for version in registry.versions():
        try:
            times.append(int(registry.manifest(version).trained_at.timestamp() * 1000))
        except ObjectNotFoundError:  # removed since it was listed
            continue
        except ArtefactError:
            return NEVER
    return min(times) - MARGIN_MS

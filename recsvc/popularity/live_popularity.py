"""Popularity kept fresh between trainings: the model's own, and what users did since.

Both are decayed by the model's half-life to the hour of the newest interaction, not to the time of day: a feed in which
nothing happens does not forget what is popular. The counts stand in the store that the processes of this machine share;
of them, a refreshment reads the hours that changed.
"""

from collections.abc import Callable, Mapping
from typing import Final
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from modelstore.id_map import IdMap
from recsvc.live_state.environment import Environment
from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.store import LiveStore
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.popularity.hourly_counts import HourlyCounts
from servicekit.process.periodic_thread import PeriodicThread

MAX_HOURS: Final = 7 * 24
"""Hours that are kept, as many as the topic keeps; within one, a half-life of a day takes 3 %."""
MAX_SUMS: Final = 2_000_000
"""Videos of all hours together that are kept, 8 bytes each."""
MAX_DECAY: Final = 1 / 8
"""Least share that is left of the model's own popularity, however old it is: some order is better than none."""


class LivePopularity:
    """Gives the live model a prior that follows what users do.

    Args:
        live: Holds the model.
        store: Holds the counts by hour.
        interval_s: Seconds between two refreshments.
        now_ms: Milliseconds since 1970 UTC.
    """

    def __init__(self, live: LiveModel, store: LiveStore, *, interval_s: float, now_ms: Callable[[], int]) -> None:
        self._live = live
        self._store = store
        self._now_ms = now_ms
        self._hours: dict[int, HourlyCounts] = {}
        self._videos: IdMap | None = None
        """By whose rows the hours are counted."""
        self._environment: Callable[[], Environment | None] = _nothing
        """What they were read from, which this must not keep open."""
        self._served: tuple[ServingModel | None, Mapping[int, int]] = (None, {})
        self._thread = PeriodicThread("freshness", self.refresh, interval_s=interval_s)

    def start(self) -> None:
        """Start the thread that refreshes; a failure leaves the prior as it was."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread that refreshes."""
        self._thread.stop()

    def refresh(self) -> bool:
        """Give the live model a fresh prior and return True, unless nothing was counted that it does not know yet.

        An error of the store, or a count that the disk changed, comes out of this, and the prior is the last one.
        """
        serving, environment = self._live.peek(), self._store.environment()
        if serving is None or environment is None:
            return False  # until there is a store again, the last prior counts
        is_same = self._environment() is environment and self._served[0] is serving
        versions = self._versions(serving)
        if is_same and self._served[1] == versions:
            return False
        self._read(versions, environment, serving.model.videos)
        if not versions:
            return False
        fresh = serving.with_popularity(self._popularity(serving))
        if not self._live.exchange(serving, fresh):
            return False  # another model went live meanwhile: it is next
        self._served = (fresh, versions)
        return True

    def popularity(self, serving: ServingModel) -> NDArray[np.float32]:
        """Return a model's popularity as of the newest hour, (V,) float32."""
        environment = self._store.environment()
        if environment is not None:
            self._read(self._versions(serving), environment, serving.model.videos)
        return self._popularity(serving)

    def _versions(self, serving: ServingModel) -> dict[int, int]:
        """Return the hours that a model's data do not cover, and how often each changed."""
        since = -(-_cut_off_ms(serving) // HOUR_MS)
        versions = self._store.hours()
        return {hour: versions[hour] for hour in sorted(versions)[-MAX_HOURS:] if hour >= since}

    def _read(self, versions: Mapping[int, int], environment: Environment, videos: IdMap) -> None:
        """Read the hours that changed, the newest first, until the limit; the newest stays, however much it holds."""
        known = self._hours if self._environment() is environment and self._videos is videos else {}
        hours: dict[int, HourlyCounts] = {}
        held = 0
        for hour in sorted(versions, reverse=True):
            counts = known.get(hour)
            if counts is None or counts.version != versions[hour]:
                counts = HourlyCounts.of(versions[hour], *self._store.counts(hour), videos)
            held += len(counts.rows)
            if hours and held > MAX_SUMS:
                break
            hours[hour] = counts
        self._hours, self._videos, self._environment = hours, videos, ref(environment)

    def _popularity(self, serving: ServingModel) -> NDArray[np.float32]:
        manifest = serving.manifest
        cut_off_ms = _cut_off_ms(serving)
        newest_ms = max(cut_off_ms, min(max(self._hours, default=0) * HOUR_MS, self._now_ms()))
        decay = _Decay(newest_ms, manifest.popularity_half_life_s * 1000)
        popularity = serving.model.popularity * max(MAX_DECAY, decay.since(cut_off_ms))
        for hour, counts in self._hours.items():
            middle_ms = min(hour * HOUR_MS + HOUR_MS // 2, newest_ms)
            popularity[counts.rows] += counts.sums * np.float32(decay.since(middle_ms))
        return popularity.astype(np.float32, copy=False)


class _Decay:
    def __init__(self, now_ms: int, half_life_ms: float) -> None:
        self._now_ms = now_ms
        self._half_life_ms = half_life_ms

    def since(self, at_ms: int) -> float:
        """Return the part of a weight that is left after the decay since then."""
        left: float = 0.5 ** ((self._now_ms - at_ms) / self._half_life_ms)
        return left


def _cut_off_ms(serving: ServingModel) -> int:
    return round(serving.manifest.data_until.timestamp() * 1000)


def _nothing() -> None:
    return None

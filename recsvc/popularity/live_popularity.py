"""Popularity kept fresh between trainings: the model's own, and what users did since.

Both are decayed by the model's half-life to the newest interaction, not to the time of day: a feed in which nothing
happens does not forget what is popular.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelstore.id_map import UNKNOWN
from recsvc.domain.interaction import value
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.popularity.hourly_counts import HourlyCounts
from recsvc.users.kafka_message import UserInteraction
from servicekit.process.periodic_thread import PeriodicThread

HOUR_MS: Final = 3_600_000
"""Interactions are counted by the hour: within it, a half-life of a day takes 3 %."""
MAX_HOURS: Final = 7 * 24
"""Hours that are kept, as many as the topic keeps."""
MAX_SUMS: Final = 2_000_000
"""Videos of all hours together that are kept, about 30 bytes each."""
MAX_DECAY: Final = 1 / 8
"""Least share that is left of the model's own popularity, however old it is: some order is better than none."""


class LivePopularity:
    """Counts interactions, and gives the live model a prior that follows them.

    Args:
        live: Holds the model.
        interval_s: Seconds between two refreshments.
    """

    def __init__(self, live: LiveModel, *, interval_s: float) -> None:
        self._live = live
        self._hours: defaultdict[int, HourlyCounts] = defaultdict(HourlyCounts)
        self._newest_ms = 0
        self._counted = 0
        self._served: tuple[ServingModel | None, int] = (None, 0)
        self._lock = threading.Lock()
        self._thread = PeriodicThread("freshness", self.refresh, interval_s=interval_s)

    def start(self) -> None:
        """Refresh from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop refreshing."""
        self._thread.stop()

    def count(self, done: Sequence[UserInteraction], *, now_ms: int) -> None:
        """Count interactions that speak for their videos; of those from the future, as if they happened now."""
        serving = self._live.peek()
        with self._lock:
            for one in done:
                worth = value(one.interaction, _duration_ms(serving, one.interaction.video_id))
                if worth > 0:
                    at_ms = min(one.interaction.at_ms, now_ms)
                    self._hours[at_ms // HOUR_MS].add(one.interaction.video_id, worth)
                    self._newest_ms = max(self._newest_ms, at_ms)
                    self._counted += 1
            self._forget_oldest()

    def refresh(self) -> bool:
        """Give the live model a fresh prior and return True, unless nothing was counted that it does not know yet."""
        serving, counted = self._live.peek(), self._counted
        if serving is None or not counted or self._served == (serving, counted):
            return False
        fresh = serving.with_popularity(self.popularity(serving))
        if not self._live.exchange(serving, fresh):
            return False  # another model went live meanwhile: it is next
        self._served = (fresh, counted)
        return True

    def popularity(self, serving: ServingModel) -> NDArray[np.float32]:
        """Return a model's popularity as of the newest interaction, (V,) float32."""
        manifest = serving.manifest
        cut_off_ms = round(manifest.data_until.timestamp() * 1000)
        with self._lock:
            newest_ms = max(self._newest_ms, cut_off_ms)
            # All of them: an hour that is not asked would keep an earlier model's videos in memory.
            hours = {hour: sums.of(serving.model.videos) for hour, sums in self._hours.items()}
        decay = _Decay(newest_ms, manifest.popularity_half_life_s * 1000)
        popularity = serving.model.popularity * max(MAX_DECAY, decay.since(cut_off_ms))
        for hour, (rows, sums) in hours.items():
            if hour * HOUR_MS >= cut_off_ms:
                middle_ms = min(hour * HOUR_MS + HOUR_MS // 2, newest_ms)
                popularity[rows] += sums * decay.since(middle_ms)
        return popularity.astype(np.float32, copy=False)

    def _forget_oldest(self) -> None:
        """Keep to the limits; the newest hour stays, however much it holds."""
        held = sum(map(len, self._hours.values()))
        for hour in sorted(self._hours)[:-1]:
            if len(self._hours) <= MAX_HOURS and held <= MAX_SUMS:
                return
            held -= len(self._hours.pop(hour))


class _Decay:
    def __init__(self, now_ms: int, half_life_ms: float) -> None:
        self._now_ms = now_ms
        self._half_life_ms = half_life_ms

    def since(self, at_ms: int) -> float:
        """Return what is left of something that happened then."""
        left: float = 0.5 ** ((self._now_ms - at_ms) / self._half_life_ms)
        return left


def _duration_ms(serving: ServingModel | None, video_id: str) -> int:
    row = serving.model.videos.row(video_id) if serving else UNKNOWN
    return int(serving.model.catalogue.durations_ms[row]) if serving and row != UNKNOWN else -1

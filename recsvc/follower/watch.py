"""Reports each second how far the store is behind Kafka, to the workers and to the metrics."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from confluent_kafka import KafkaException

from recsvc.follower.lag import Lag
from recsvc.follower.topics.cluster import Reachable
from recsvc.follower.topics.live_data import LiveData
from recsvc.follower.topics.message import TOPICS
from recsvc.follower.topics.reading import Reading
from recsvc.live_state.status import State, Status, write_status
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metric, Metrics

TELL_S: Final = 1.0
ASK_S: Final = 1.0
LIST_S: Final = 30.0
"""Seconds between two looks for new topics and partitions."""
TAGGED: Final = 64
"""Partitions that have a tag of their own."""

logger = structlog.get_logger(__name__)


class Watch:
    """Asks the brokers in one thread and reports in another: a call that hangs in one does not delay the other.

    Args:
        folder: Of the store, where the status is written.
        live: Looked at for another model.
        reading: Watched; None without Kafka.
        client: How to reach the brokers.
        metrics: Told of the lag.
        now_ms: Milliseconds since 1970 UTC.
        list_s: Seconds between two looks for new topics and partitions.
    """

    def __init__(
        self,
        folder: Path,
        live: LiveData,
        reading: Reading | None,
        client: Mapping[str, Any],
        metrics: Metrics,
        *,
        now_ms: Callable[[], int],
        list_s: float = LIST_S,
    ) -> None:
        self._folder = folder
        self._live = live
        self._reading = reading
        self._reachable = Reachable(client)
        self._metrics = metrics
        self._now_ms = now_ms
        self._looks = self._looks_to_list = max(1, round(list_s / ASK_S))
        self._lag = Lag(now_ms=now_ms)
        self._missed = 0
        self._state = State.BLIND
        self._telling = PeriodicThread(
            "live-status", self.tell, interval_s=TELL_S, waits_first=False, on_failure=_tell_of_disk
        )
        self._asking = PeriodicThread("live-ends", self._ask, interval_s=ASK_S, waits_first=False, on_failure=_passed)

    def start(self) -> None:
        """Start both threads."""
        self._telling.start()
        if self._reading:
            self._asking.start()

    def stop(self) -> None:
        """Stop both threads."""
        self._asking.stop()
        self._telling.stop()

    def renew(self, client: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on."""
        self._reachable.renew(client)

    def is_following(self) -> bool:
        """Return whether the store follows."""
        return self._state is State.FOLLOWING

    def tell(self) -> Status:
        """Write the status for the workers, and the metrics."""
        self._live.look()
        now_ms = self._now_ms()
        if self._reading:
            status = self._lag.status(dict(self._reading.places), since_ms=self._live.cut_off_ms or 0)
            starts = self._reading.starts
            if starts and starts.open and self._live.cut_off_ms is not None:
                self._reading.look_again()
        else:
            status = Status(state=State.FOLLOWING, known_until_ms=now_ms, at_ms=now_ms)
        self._state = status.state
        write_status(self._folder, status)
        self._measure(status)
        return status

    def _ask(self) -> None:
        """Ask for the partitions' ends, and at times for the list of partitions."""
        if self._reading is None:
            return
        places = dict(self._reading.places)
        if not places:  # the reading itself looks what there is
            return
        asked_ms = self._now_ms()
        ends = self._reachable.get().ends(places)
        self._lag.learn(ends, asked_ms=asked_ms)
        if any(offset > ends[place] for place, (offset, _) in places.items()):
            self._reading.look_again()  # a topic that was made anew
        self._looks -= 1
        if self._looks <= 0:
            self._looks = self._looks_to_list
            if {*self._reachable.get().ground(TOPICS).places} - places.keys():
                self._reading.look_again()

    def _measure(self, status: Status) -> None:
        for state in State:
            self._metrics.gauge(Metric.LIVE_STATE, 1.0 if state is status.state else 0.0, tags=[f"state:{state}"])
        for (topic, partition), records in status.lags.items():
            number = str(partition) if partition < TAGGED else "more"
            self._metrics.gauge(Metric.LIVE_STATE_LAG, records, tags=[f"topic:{topic}", f"partition:{number}"])
        if status.last_record_ms is not None:
            age_s = max(0, self._now_ms() - status.last_record_ms) / 1000
            self._metrics.gauge(Metric.LIVE_STATE_AGE, age_s)
        missed = self._reading.missed if self._reading else 0
        if missed > self._missed:
            self._metrics.count(Metric.LIVE_MISSED, missed - self._missed)
            self._missed = missed


def _tell_of_disk(error: Exception) -> None:
    if isinstance(error, OSError):
        logger.warning("live.status_not_written", problem=str(error))
    else:
        logger.error("live.watch_defect", exc_info=error)


def _passed(error: Exception) -> None:
    """Say nothing of brokers that do not answer: the reading tells of it, and the state is blind."""
    if not isinstance(error, KafkaException):
        logger.error("live.watch_defect", exc_info=error)

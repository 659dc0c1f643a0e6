"""Copies the topics' messages to the store, with the offsets after them: none is lost, and none is applied twice."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
from confluent_kafka import KafkaException

from recsvc.follower.topics.cluster import Reachable
from recsvc.follower.topics.gathering import Gathering, MovedError, Place
from recsvc.follower.topics.live_data import LiveData
from recsvc.follower.topics.message import TOPICS
from recsvc.follower.topics.oddities import Oddities
from recsvc.follower.topics.recent_events import RecentEvents
from recsvc.follower.topics.source import Source, SourceError
from recsvc.follower.topics.starts import Restore, Starts, find_starts
from recsvc.live_state.store import LiveStore, StoreError
from servicekit.process.periodic_thread import PeriodicThread, StopRequested
from servicekit.telemetry.metrics import Metric, Metrics

POLL_S: Final = 0.2
RETRY_S: Final = 1.0
PACE_S: Final = 0.01
"""Seconds between two batches while there is little to read: a commit costs as much for one message as for many."""
LITTLE: Final = 200
MUCH: Final = 2000
"""Messages of a batch that tell of a backlog."""
MAX_BATCH: Final = 10_000
"""LMDB holds the pages that a transaction changes in memory, and these users have about as many pages."""
MIN_BATCH: Final = 500
MAX_BATCH_BYTES: Final = 16 << 20
MAX_GATHERING_S: Final = 2.0
LONG_S: Final = 0.25
"""Seconds of one turn of writing after which batches become smaller: workers wait for theirs."""
WRITE_PATIENCE_S: Final = 5.0
STOP_WITHIN_S: Final = 10.0

logger = structlog.get_logger(__name__)


def _take_lowest_priority() -> None:
    """Set the lowest priority for this thread, so that pages do not wait while old messages are read."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Reading:
    """Reads in a thread, for as long as it lives; trouble with Kafka or the store is waited out.

    Args:
        client: How to reach the brokers, in librdkafka's properties.
        store: Written to.
        live: Knows where to begin, and how long videos are.
        metrics: Told what was read.
        exchanging: Held by whoever may let another environment take the store's place.
        now_ms: Milliseconds since 1970 UTC.
        restore: Lets a store that has read nothing begin with a snapshot.

    Attributes:
        places: By partition, the offset after the last record that is in the store, and when that was written.
        starts: Where the partitions that are read began; None before they are known.
        trouble: Why nothing is read, in words; an empty text while all is well.
        missed: Records that retention took before they were read.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        store: LiveStore,
        live: LiveData,
        metrics: Metrics,
        exchanging: threading.Lock,
        *,
        now_ms: Callable[[], int],
        restore: Restore | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._live = live
        self._metrics = metrics
        self._exchanging = exchanging
        self._now_ms = now_ms
        self._restore = restore
        self._reachable = Reachable(client)
        self._oddities = Oddities(metrics)
        self._recent = RecentEvents()
        self._limit = MIN_BATCH
        self._stored: dict[Place, int] = {}
        self.places: dict[Place, tuple[int, int | None]] = {}
        self.starts: Starts | None = None
        self.trouble = ""
        self.missed = 0
        self._renewed = threading.Event()
        self._changed = threading.Event()
        self._thread = PeriodicThread(
            "live-reading",
            self._read_with_one_client,
            interval_s=POLL_S,
            retry_s=RETRY_S,
            waits_first=False,
            stop_within_s=STOP_WITHIN_S,
        )

    def start(self) -> None:
        """Start the thread that reads."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; what was read is written first."""
        self._thread.stop()

    def renew(self, client: Mapping[str, Any]) -> None:
        """Reach the brokers in this way from now on; reading goes on where it is."""
        self._client = client
        self._reachable.renew(client)
        self._renewed.set()

    def look_again(self) -> None:
        """Ask for the partitions and their starts again, soon."""
        self._changed.set()

    def _read_with_one_client(self) -> None:
        """Read until told to stop, or to reach the brokers in another way."""
        self._renewed.clear()
        try:
            source = Source(self._client)
        except KafkaException as error:  # such as certificates that do not work
            self._report(str(error.args[0]))
            self._thread.wait(RETRY_S)
            return
        try:
            while not self._is_interrupted():
                self._read_what_there_is(source)
        except StopRequested:
            pass
        finally:
            source.close()

    def _read_what_there_is(self, source: Source) -> None:
        """Read all partitions that the cluster has now, until told otherwise."""
        self._changed.clear()
        try:
            cluster = self._reachable.get()
            ground = cluster.ground(TOPICS)
            with self._exchanging:
                starts = find_starts(cluster, ground, self._store, self._live.cut_off_ms, self._restore)
        except (KafkaException, StoreError) as error:
            told = error.args[0] if isinstance(error, KafkaException) else error
            self._report(str(told))
            self._thread.wait(RETRY_S)
            return
        self._begin(starts)
        source.assign(starts.offsets)
        if not starts.offsets:
            self._report("no partition to read" if not starts.open else "no model is live yet")
            self._thread.wait(RETRY_S)
            return
        self._follow(source)

    def _begin(self, starts: Starts) -> None:
        known = self._store.progress()
        if any(starts.stored.get(place) != offset for place, offset in self._stored.items()):
            self._recent.clear()  # another store: the same events come again
        self._stored = dict(starts.stored)
        self.places = {
            place: (offset, known[place][1] if place in known else None) for place, offset in starts.offsets.items()
        }
        self.missed += starts.missed
        self.starts = starts

    def _follow(self, source: Source) -> None:
        """Read messages until told otherwise; a large backlog at the lowest priority."""
        try:
            while not (self._is_interrupted() or self._changed.is_set()):
                messages = self._read_batch(source)
                if messages >= MUCH:
                    # A thread that once had this priority may not have another one again.
                    with ThreadPoolExecutor(1, "live-replay", initializer=_take_lowest_priority) as replay:
                        replay.submit(self._catch_up, source).result()
                elif 0 < messages < LITTLE:
                    self._thread.wait(PACE_S)
        except MovedError:
            logger.info("live.store_exchanged")
            self._recent.clear()

    def _catch_up(self, source: Source) -> None:
        """Read messages as long as the backlog is large."""
        while not (self._is_interrupted() or self._changed.is_set()):
            if self._read_batch(source) < LITTLE:
                return

    def _read_batch(self, source: Source) -> int:
        """Copy some messages to the store, and return how many; MovedError where they are for another store."""
        try:
            gathered = self._gathered(source)
            self._report(source.trouble)
        except SourceError as error:
            self._report(str(error))
            self._thread.wait(RETRY_S)
            return 0
        if gathered.messages:
            self._write(gathered)
        return gathered.messages

    def _gathered(self, source: Source) -> Gathering:
        """Return what has come, read as far as one batch goes; nothing after a while."""
        gathered = Gathering(self._now_ms(), self._recent, self._live.duration_ms, self._oddities)
        until = time.monotonic() + MAX_GATHERING_S
        messages = source.read(POLL_S)
        while messages:
            gathered.take(messages)
            if gathered.messages >= self._limit or gathered.bytes >= MAX_BATCH_BYTES or time.monotonic() > until:
                break
            try:
                messages = source.read(0)
            except SourceError as error:  # what was gathered is not lost to it
                self._report(str(error))
                break
        return gathered

    def _write(self, gathered: Gathering) -> None:
        """Write a batch, again and again until the store takes it; MovedError where it is for another store."""
        while True:
            try:
                with self._store.writing(patience_s=WRITE_PATIENCE_S) as batch:
                    began = time.monotonic()
                    gathered.apply(batch, self._stored)
                break
            except StoreError as error:
                self._report(str(error))
                self._thread.pause(RETRY_S)
        self._adapt(gathered.messages, time.monotonic() - began)
        for place, (offset, at_ms) in gathered.ends.items():
            self._stored[place] = offset
            self.places[place] = (offset, at_ms)
        self._metrics.count(Metric.LIVE_INTERACTIONS, gathered.messages)
        self._oddities.report()

    def _adapt(self, messages: int, took_s: float) -> None:
        """Let the next batch be as large as may be without holding other writers up."""
        if took_s > LONG_S:
            self._limit = max(MIN_BATCH, self._limit // 2)
        elif messages >= self._limit and took_s < LONG_S / 2:
            self._limit = min(MAX_BATCH, self._limit * 2)

    def _is_interrupted(self) -> bool:
        return self._thread.is_stopping or self._renewed.is_set()

    def _report(self, trouble: str) -> None:
        """Log a change of the state, once."""
        if trouble and trouble != self.trouble:
            logger.warning("live.not_reading", problem=trouble)
        elif self.trouble and not trouble:
            logger.info("live.reading")
        self.trouble = trouble

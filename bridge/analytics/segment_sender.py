"""Sends events to Segment in bounded batches, with retries, and counts every event that is lost.

A sender of its own, as Segment's library cannot say what it delivered, keeps a queue that only blocks or loses events
uncounted, and may wait forever when it is flushed. The API's limits are those of Segment's HTTP tracking API, batch:
32 KB an event, 500 KB a request; repeats are recognised by `messageId`.
"""

import base64
import gzip
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog
import urllib3

from servicekit.bounded import BoundedQueue
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metric, Metrics

Event: TypeAlias = Mapping[str, Any]
"""An event as Segment's API takes it, JSON values only."""

MAX_EVENT_BYTES: Final = 32_000
MAX_BATCH_BYTES: Final = 450_000
RETRIED: Final = frozenset({408, 410, 429, 460, *range(500, 600)} - {501, 505})
"""As in Segment's own libraries."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentPolicy:
    """Bounds of the queue, and times of sending."""

    waiting_bytes: int = 16 << 20
    """Bytes of the events that wait at most, about 16,000 of pages of 20 videos; further ones are lost and counted."""
    batch: int = 100
    """Events of a request at most."""
    pause_s: float = 0.5
    """Seconds that events are gathered for."""
    timeout_s: float = 5.0
    """Seconds that a request may take."""
    attempts: int = 8
    first_retry_s: float = 0.5
    last_retry_s: float = 30.0


class SegmentSender:
    """Sends events from a thread of its own; `send` never waits.

    Args:
        write_key: Of the source.
        url: Of the batch endpoint.
        metrics: Told what became of the events.
        policy: Bounds.
    """

    def __init__(
        self,
        write_key: str,
        metrics: Metrics,
        *,
        url: str = "https://api.segment.io/v1/batch",
        policy: SegmentPolicy = SegmentPolicy(),  # frozen
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._metrics = metrics
        self._policy = policy
        self._jitter = jitter
        self._headers: dict[str, str] = {}
        self.renew(write_key)
        self._http = urllib3.PoolManager(maxsize=1, retries=False, timeout=urllib3.Timeout(total=policy.timeout_s))
        self._waiting: BoundedQueue[bytes] = BoundedQueue(policy.waiting_bytes, sys.getsizeof)
        self._lock = threading.Lock()
        """Guards the queue, which callers add to and the sender's thread takes from."""
        self._give_up_at = float("inf")
        self._well = True
        self._thread = PeriodicThread("segment", self._send_waiting, interval_s=policy.pause_s, ends_with_step=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Queue an event; drop and count it when it cannot be sent, or when too many wait."""
        try:
            encoded = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, TypeError, RecursionError):
            self._lose(1, "not_json")
            return
        if len(encoded) > MAX_EVENT_BYTES:
            self._lose(1, "too_large")
            return
        with self._lock:
            taken = self._waiting.offer(encoded)
        if not taken:
            self._lose(1, "queue_full")

    def renew(self, write_key: str) -> None:
        """Use this key from the next request on."""
        key = base64.b64encode(f"{write_key}:".encode()).decode()
        self._headers = {
            "authorization": f"Basic {key}",
            "content-type": "application/json",
            "content-encoding": "gzip",
        }

    def close(self, *, flush_s: float) -> int:
        """Send waiting events for up to `flush_s` seconds, and return the number of unsent ones."""
        self._give_up_at = time.monotonic() + flush_s
        self._thread.stop(within_s=flush_s + self._policy.timeout_s)
        left = len(self._waiting)
        if left:
            self._lose(left, "shutdown")
        self._http.clear()
        return left

    def _send_waiting(self) -> None:
        while self._waiting and not self._late():
            self._deliver(self._gather())

    def _gather(self) -> list[bytes]:
        """Take the events of one request from the queue."""
        batch: list[bytes] = []
        size = 0
        while self._waiting and len(batch) < self._policy.batch and size < MAX_BATCH_BYTES - MAX_EVENT_BYTES:
            with self._lock:
                batch.append(self._waiting.popleft())
            size += len(batch[-1])
        return batch

    def _deliver(self, batch: list[bytes]) -> None:
        if not batch:
            return
        body = gzip.compress(b'{"batch":[' + b",".join(batch) + b"]}", 1)
        reason = "shutdown"
        for attempt in range(self._policy.attempts):
            if self._late():
                break
            status = self._post(body)
            if status is not None and 200 <= status < 300:
                self._note(None)
                self._metrics.count(Metric.ANALYTICS_SENT, len(batch))
                return
            self._note("no answer" if status is None else f"status {status}")
            reason = "unreachable" if status is None else "refused"
            if status is not None and status not in RETRIED:
                break
            if attempt + 1 < self._policy.attempts:
                self._thread.wait(self._pause(attempt))
        self._lose(len(batch), reason)

    def _pause(self, attempt: int) -> float:
        """Return the seconds before the next attempt, doubled each time, less up to half of it."""
        policy = self._policy
        longest = min(
            policy.last_retry_s, policy.first_retry_s * 2.0**attempt, max(0.0, self._give_up_at - time.monotonic())
        )
        return longest * (1 - self._jitter() / 2)

    def _post(self, body: bytes) -> int | None:
        try:
            response = self._http.request("POST", self._url, body=body, headers=self._headers, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError):
            return None
        return response.status

    def _late(self) -> bool:
        return time.monotonic() >= self._give_up_at

    def _lose(self, events: int, reason: str) -> None:
        self._metrics.count(Metric.ANALYTICS_LOST, events, tags=[f"reason:{reason}"])

    def _note(self, problem: str | None) -> None:
        """Log the first failure and the first success after failures."""
        if problem is None and not self._well:
            logger.info("segment.accepting")
        if problem is not None and self._well:
            logger.warning("segment.not_accepting", problem=problem)
        self._well = problem is None

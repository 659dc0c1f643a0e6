"""Runs a step periodically in a thread, until it is told to stop."""

import threading
from collections.abc import Callable
from typing import Final

import structlog

logger = structlog.get_logger(__name__)

STOP_WITHIN_S: Final = 5.0
Wait = Callable[[threading.Event, float], bool]


class StopRequested(Exception):  # noqa: N818  # no error: the way out of a long step
    """Ends a step whose thread was told to stop."""


class PeriodicThread:
    """Takes a step, waits, and takes the next one; an error ends neither the thread nor the process.

    A failure is logged when it begins or becomes another one, and when it is over: not at every step.

    Args:
        name: Of the thread.
        step: Taken in the thread; it may use `wait`, `pause` and `is_stopping` of this object.
        interval_s: Seconds between the end of a step and the next one; 0 for a step that waits by itself.
        retry_s: Seconds after a step that failed; None for the same.
        waits_first: The first step, too, comes after `interval_s` rather than at once.
        ends_with_step: One more step comes after the thread was told to stop, such as to send what waits.
        on_failure: Tells of an error; None logs it with its trace.
        stop_within_s: Seconds that `stop` waits for a step that is under way.
        wait: Waits for an event that long at most, and returns whether it came.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], object],
        *,
        interval_s: float,
        retry_s: float | None = None,
        waits_first: bool = True,
        ends_with_step: bool = False,
        on_failure: Callable[[Exception], None] | None = None,
        stop_within_s: float = STOP_WITHIN_S,
        wait: Wait = threading.Event.wait,
    ) -> None:
        self._name = name
        self._step = step
        self._interval_s = interval_s
        self._retry_s = interval_s if retry_s is None else retry_s
        self._waits_first = waits_first
        self._ends_with_step = ends_with_step
        self._on_failure = on_failure
        self._stop_within_s = stop_within_s
        self._wait = wait
        self._failure = ""
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, within_s: float | None = None) -> bool:
        """Tell the thread to end, wait for that, and return whether it has; it may never have been started.

        Args:
            within_s: Seconds to wait, in place of `stop_within_s`.
        """
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(self._stop_within_s if within_s is None else within_s)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Take the next step at once."""
        self._woken.set()

    @property
    def is_stopping(self) -> bool:
        """Return whether the thread was told to stop."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait within a step; return True, at once, when the thread was told to stop."""
        return self._wait(self._stopping, seconds)

    def pause(self, seconds: float) -> None:
        """Wait within a step; StopRequested, at once, when the thread was told to stop."""
        if self.wait(seconds):
            raise StopRequested

    def _run(self) -> None:
        pause_s = self._interval_s if self._waits_first else 0.0
        while True:
            if pause_s:
                self._wait(self._woken, pause_s)
            self._woken.clear()
            is_last = self.is_stopping  # looked at after `clear`, which may have taken the word of `stop`
            if is_last and not self._ends_with_step:
                return
            try:
                self._step()
            except StopRequested:
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, the next step may succeed
                pause_s = self._retry_s
                self._failed(error)
            else:
                pause_s = self._interval_s
                self._succeeded()
            if is_last:
                return

    def _failed(self, error: Exception) -> None:
        failure = f"{type(error).__name__}: {error}"
        if failure == self._failure:
            return
        self._failure = failure
        if self._on_failure:
            self._on_failure(error)
        else:
            logger.error("thread.step_failed", thread=self._name, exc_info=error)

    def _succeeded(self) -> None:
        if self._failure:
            self._failure = ""
            logger.info("thread.step_recovered", thread=self._name)

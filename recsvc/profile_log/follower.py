"""Keeps a process in step with the profile log, in a thread: no call waits for the file."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from recsvc.profile_log.entry import Entry
from recsvc.profile_log.log import ProfileLog
from servicekit.process.periodic_thread import PeriodicThread

LOOK_S: Final = 0.05
"""Seconds between two looks; one that finds nothing reads eight bytes of memory."""
BREATH_S: Final = 0.002
"""Seconds that pages have the interpreter for themselves between two steps."""
RETRY_S: Final = 5.0
"""Seconds between two tries to compact, or after a defect."""
STOP_WITHIN_S: Final = 1.0

logger = structlog.get_logger(__name__)


class JournalFollower:
    """Applies what was noted in any process, and has the journal compacted when that is due.

    Args:
        journal: Followed.
        apply: Given each entry, in the thread.
        clock: Monotonic seconds.
    """

    def __init__(
        self, journal: ProfileLog, apply: Callable[[Entry], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal = journal
        self._apply = apply
        self._clock = clock
        self._trouble = ""
        self._compact_at = clock()
        self._thread = PeriodicThread(
            "journal", self._look_and_compact, interval_s=LOOK_S, retry_s=RETRY_S, stop_within_s=STOP_WITHIN_S
        )

    def start(self) -> None:
        """Apply all that was noted up to now, before the first call; then go on in the thread."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Stop."""
        self._thread.stop()

    def look(self, pause: Callable[[], None] = lambda: None) -> None:
        """Apply what is new; a file that cannot be read is complained of once."""
        try:
            self._journal.follow(self._apply, pause)
        except OSError as error:
            self._report(f"cannot be read: {error}")
        else:
            self._report("")

    def compact_if_due(self) -> None:
        """Have the journal compacted, unless that was tried a moment ago."""
        if not self._journal.is_due() or self._clock() < self._compact_at:
            return
        self._compact_at = self._clock() + RETRY_S
        try:
            self._journal.compact(self._breathe_and_look)
        except OSError as error:
            logger.warning("journal.not_compacted", problem=str(error))

    def _look_and_compact(self) -> None:
        self.look(self._breathe)
        self.compact_if_due()

    def _breathe(self) -> None:
        self._thread.pause(BREATH_S)

    def _breathe_and_look(self) -> None:
        """What is told while the file is compacted is known as soon as ever."""
        self._breathe()
        self.look(self._breathe)

    def _report(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            logger.warning("journal.read_failed", problem=trouble)
        self._trouble = trouble

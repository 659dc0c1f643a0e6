"""Keeps a process in step with the journal, in a thread: no call waits for the file."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from recsvc.profile_log.entry import Entry
from recsvc.profile_log.log import ProfileLog

LOOK_S: Final = 0.05
"""Seconds between two looks; one that finds nothing reads eight bytes of memory."""
BREATH_S: Final = 0.002
"""Seconds that pages have the interpreter for themselves between two steps."""
RETRY_S: Final = 5.0
"""Seconds between two tries to compact."""

logger = structlog.get_logger(__name__)


class _Ended(Exception):  # noqa: N818  # no error: the way out of a long piece of work
    """The process is about to end."""


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
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def begin(self) -> None:
        """Apply all that was noted up to now, before the first call; then go on in the thread."""
        self.look()
        self._thread.start()

    def end(self) -> None:
        """Stop."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1)

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

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.look(self._breathe)
                self.compact_if_due()
            except _Ended:
                return
            except Exception:
                logger.exception("journal.defect")
                self._stopping.wait(RETRY_S)

    def _breathe(self) -> None:
        if self._stopping.wait(BREATH_S):
            raise _Ended

    def _breathe_and_look(self) -> None:
        """What is told while the file is compacted is known as soon as ever."""
        self._breathe()
        self.look(self._breathe)

    def _report(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            logger.warning("journal.read_failed", problem=trouble)
        self._trouble = trouble

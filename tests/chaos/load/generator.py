"""The load as the harness sees it: a process that writes, and what is read of that."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.local.child_process import Child
from deploy.local.program import ROOT
from tests.chaos.load.call import INTERACTION, PAGE, PERSONAL, Call
from tests.chaos.load.driver import TIMEOUT_S, Plan

POLL_S: Final = 0.05
SHARE: Final = 0.99
"""Of pages in a window that are personal when all is well."""
STOP_S: Final = 30.0


class Generator:
    """Starts the load and reads its calls.

    Args:
        folder: For its files.
        plan: Whose output lies there.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder = folder
        self._plan = plan
        self._output = Path(plan.output)
        self._rest = ""
        self._place = 0
        self._child: Child | None = None
        self._newest: dict[str, int] = {PAGE: -1, INTERACTION: -1}
        self._count: dict[str, int] = {PAGE: 0, INTERACTION: 0}
        self.calls: list[Call] = []

    def start(self) -> None:
        """Begin; from the main thread."""
        path = self._folder / "load.json"
        self._plan.save(path)
        self._output.touch()
        command = [sys.executable, "-m", "tests.chaos.load.driver", str(path)]
        self._child = Child.start("load", command, log=self._folder / "load.log", cwd=ROOT)

    def stop(self) -> None:
        """End, once all calls have."""
        if self._child:
            self._child.stop(timeout_s=STOP_S)
            self.read()

    @property
    def problem(self) -> str:
        """Why it has ended by itself; nothing while it runs."""
        return "" if self._child is None or self._child.running else f"the load has ended: {self._child.last_words()}"

    def read(self) -> None:
        """Take in what was written since."""
        with self._output.open(encoding="utf-8") as output:
            output.seek(self._place)
            text = self._rest + output.read()
            self._place = output.tell()
        *lines, self._rest = text.split("\n")
        for line in lines:
            call = Call.parse(line)
            self.calls.append(call)
            self._count[call.kind] += 1
            self._newest[call.kind] = max(self._newest[call.kind], call.number)

    def between(self, begin: float, end: float) -> list[Call]:
        """Return the calls that were due then."""
        return [call for call in self.calls if begin <= call.due < end]

    def first_personal(self, begin: float, window: int) -> float | None:
        """Return when the first of so many pages in a row was due, from then on, of which nearly all are personal."""
        seen: deque[Call] = deque()
        personal = 0
        for page in self._pages_from(begin):
            seen.append(page)
            personal += page.outcome == PERSONAL
            if len(seen) > window:
                personal -= seen.popleft().outcome == PERSONAL
            if len(seen) == window and personal >= SHARE * window:
                return seen[0].due
        return None

    def wait_personal(self, begin: float, window: int, *, timeout_s: float) -> float | None:
        """Wait until pages are personal; return when that was, None when they have not become so in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.read()
            found = self.first_personal(begin, window)
            if found is not None or time.monotonic() > deadline:
                return found
            time.sleep(POLL_S)

    def wait_ended(self, until: float) -> None:
        """Wait until every call that was due before then has ended."""
        deadline = time.monotonic() + 2 * TIMEOUT_S
        while time.monotonic() < deadline:
            self.read()
            late = [call.due for call in self.calls[-1000:] if call.due >= until]
            whole = all(self._count[kind] == self._newest[kind] + 1 for kind in self._count)
            if late and whole:
                return
            time.sleep(POLL_S)

    def _pages_from(self, begin: float) -> Iterator[Call]:
        recent = [call for call in self.calls if call.kind == PAGE and call.due >= begin]
        return iter(sorted(recent, key=lambda call: call.due))

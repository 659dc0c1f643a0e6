"""What a nemesis did to the calls, and what of that was not promised."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.machine import MEBIBYTE
from benchmarks.report import Row
from tests.chaos.load.call import ACKNOWLEDGED, PAGE, PERSONAL, Call

MAX_BRIDGE_BYTES: Final = 400 * 1_000_000
MAX_RECSVC_BYTES: Final = 400 * 1_000_000
"""Of each process; the model of these runs takes little."""
MIN_SPARED: Final = 0.5
"""Share of pages that stay personal under a nemesis that spares them, on a machine that may be busy with others."""
MIN_SPARED_JUDGED: Final = 0.99
MAX_P99_MS: Final = 160.0
MAX_BACK_S: Final = 5.0
MAX_SILENT: Final = 2
"""Looks in a row to which a server does not answer, after which an orchestrator ends it."""


@dataclass(kw_only=True, slots=True)
class Strike:
    """One nemesis, or several at once.

    Attributes:
        name: What it was.
        moves: Whether clients had to turn to another bridge.
        spares_pages: Whether pages had to stay personal.
        begun: When it began, on the monotonic clock.
        healed: When what was broken was whole again.
        ended: When all was as before, or was waited for in vain.
        back: When pages were personal again; None when they did not become so.
        calls: That were due between begun and ended.
        peaks: The most bytes that each process held.
        silent: Servers, other than those that the nemesis ends, that did not answer health checks, and how many.
        findings: What else is wrong.
        lost: Events that were acknowledged then, and are not where they belong; known at the end of a run.
    """

    name: str
    moves: bool
    spares_pages: bool
    begun: float
    healed: float = 0.0
    ended: float = 0.0
    back: float | None = None
    calls: Sequence[Call] = ()
    peaks: dict[str, int] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    lost: int = 0

    @property
    def pages(self) -> list[Call]:
        """The pages among the calls."""
        return [call for call in self.calls if call.kind == PAGE]

    @property
    def failed(self) -> list[Call]:
        """The calls that were not answered as promised: a bridge may send clients away only when it ends."""
        return [call for call in self.calls if not call.is_good or (call.tries > 1 and not self.moves)]

    @property
    def back_s(self) -> float:
        """Seconds from the healing until pages were personal."""
        return float("inf") if self.back is None else max(0.0, self.back - self.healed)

    def p99_ms(self) -> float:
        """Return the 99th percentile of the latencies of pages while it lasted."""
        latencies = [call.latency_ms for call in self.pages if call.due < self.healed]
        return float(np.percentile(latencies, 99, method="higher")) if latencies else 0.0

    def personal(self, begin: float, end: float) -> float:
        """Return the share of personal pages among those that were due then, 0 to 1."""
        pages = [call for call in self.pages if begin <= call.due < end]
        return sum(call.outcome == PERSONAL for call in pages) / max(1, len(pages))

    def faults(self, *, judge: bool) -> list[str]:
        """Return what was not promised; the benchmark is a judge of time too."""
        found = [*self.findings]
        if self.failed:
            found.append(f"{len(self.failed)} of {len(self.calls)} calls failed: {_reasons(self.failed)}")
        spared = self.personal(self.begun, self.healed)
        if self.spares_pages and spared < (MIN_SPARED_JUDGED if judge else MIN_SPARED):
            found.append(f"{100 * (1 - spared):.0f} % of pages were not personal: {_reasons(self._impersonal())}")
        if self.back is None:
            found.append("pages do not become personal again")
        if self.lost:
            found.append(f"{self.lost} acknowledged events are lost")
        found += [
            f"{name} left {looks} health checks in a row without an answer" for name, looks in self.silent.items()
        ]
        for process, resident in self.peaks.items():
            most = MAX_BRIDGE_BYTES if process.startswith("bridge") else MAX_RECSVC_BYTES
            if resident > most:
                found.append(f"{process} held {resident / 1e6:.0f} MB of memory")
        if judge and self.p99_ms() > MAX_P99_MS:
            found.append(f"p99 of pages was {self.p99_ms():.0f} ms")
        if judge and MAX_BACK_S < self.back_s < float("inf"):
            found.append(f"{self.back_s:.1f} s until pages were personal")
        return found

    def _impersonal(self) -> list[Call]:
        return [call for call in self.pages if call.due < self.healed and call.outcome != PERSONAL]

    def row(self) -> Row:
        """Return a row of the table."""
        acknowledged = sum(call.outcome == ACKNOWLEDGED for call in self.calls)
        after = self.healed if self.back is None else self.back
        return {
            "nemesis": self.name,
            "calls": len(self.calls),
            "failed": len(self.failed),
            "p99 ms": round(self.p99_ms(), 1),
            "personal % during": round(100 * self.personal(self.begun, self.healed), 1),
            "after": round(100 * self.personal(after, self.ended), 1),
            "back after s": "never" if self.back is None else round(self.back_s, 1),
            "acknowledged": acknowledged,
            "lost": self.lost,
            "peak MiB": " ".join(f"{name} {held / MEBIBYTE:.0f}" for name, held in sorted(self.peaks.items())),
        }


def _reasons(calls: Sequence[Call]) -> str:
    def reason(call: Call) -> str:
        if call.is_good and call.tries > 1:
            return f"{call.kind} sent to another bridge"
        return f"{call.kind} {call.outcome}" + (f" ({call.why[:60]})" if call.why else "")

    return ", ".join(f"{count} {text}" for text, count in Counter(map(reason, calls)).most_common(4))

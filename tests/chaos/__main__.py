"""`python -m tests.chaos --seed 7`: a run of all nemeses under load, then of pairs of them until the time is over."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.report import table
from deploy.local.kafka.choice import choose_kafka
from deploy.local.kafka.mock import MockKafka
from tests.chaos.chaos import Chaos, pairs
from tests.chaos.nemeses.kinds import BY_NAME, NEMESES, summary
from tests.chaos.nemeses.nemesis import Nemesis
from tests.chaos.strike import Strike
from tests.chaos.system.cluster import running_cluster
from tests.consistency.history import Verdict

STRIKE_S: Final = 4.0
PATIENCE_S: Final = 15.0
RATE: Final = 100.0
SECONDS: Final = 210.0


@dataclass(kw_only=True, slots=True)
class Report:
    """What a run showed."""

    strikes: list[Strike]
    verdict: Verdict
    skipped: dict[str, str] = field(default_factory=dict)
    judge: bool = False

    def faults(self) -> list[str]:
        """Return everything that is wrong."""
        found = [f"{strike.name}: {fault}" for strike in self.strikes for fault in strike.faults(judge=self.judge)]
        if not self.verdict.valid:
            found.append(f"what was acknowledged is not as it should be: {self.verdict}"[:500])
        return found


def run(
    kinds: Sequence[type[Nemesis]],
    *,
    seed: int,
    seconds: float,
    rate: float = RATE,
    mock: bool = False,
    paired: bool = True,
    judge: bool = False,
) -> Report:
    """Run the nemeses, and pairs of them while there is time, with a line on standard output for each."""
    choice = choose_kafka()
    over = MockKafka if mock else choice.over
    _say("Kafka is " + ("librdkafka's mock cluster" if mock else choice.title))
    skipped: dict[str, str] = {}
    deadline = time.monotonic() + seconds
    with running_cluster(over, pages=rate, interactions=rate, seed=seed) as cluster:
        chaos = Chaos(cluster, seed, STRIKE_S, PATIENCE_S, round(rate))
        chaos.warm_up()
        for kind in kinds:
            if time.monotonic() > deadline:
                skipped[kind.name] = "the time was over"
            else:
                _strike(chaos, [kind], skipped, judge=judge)
        together = pairs([kind for kind in kinds if kind.name not in skipped], seed) if paired else iter(())
        for pair in together:
            if time.monotonic() > deadline:
                break
            _strike(chaos, pair, skipped, judge=judge)
        verdict = chaos.end()
        return Report(strikes=chaos.strikes, verdict=verdict, skipped=skipped, judge=judge)


def _strike(chaos: Chaos, kinds: Sequence[type[Nemesis]], skipped: dict[str, str], *, judge: bool) -> None:
    name = " + ".join(kind.name for kind in kinds)
    _say(f"{name} …")
    result = chaos.strike(kinds)
    if isinstance(result, str):
        skipped[name] = result
        _say(f"  left out: {result}")
        return
    faults = result.faults(judge=judge)
    _say(f"  {result.ended - result.begun:.1f} s, {len(result.calls)} calls, " + ("held" if not faults else "BROKEN"))
    for fault in faults:
        _say(f"  - {fault}")


def main() -> int:
    """Run as the command line says, and return 1 when a promise was broken."""
    options = _options()
    if options.list:
        for kind in NEMESES:
            _say(f"{kind.name:32} {summary(kind)}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was mounted and started ends with the run
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    report = run(
        [BY_NAME[name] for name in options.only] or NEMESES,
        seed=options.seed,
        seconds=options.seconds,
        rate=options.rate,
        mock=options.mock,
        paired=not options.only or len(options.only) > 1,
        judge=options.judge,
    )
    _say("\n" + table(f"Chaos, seed {options.seed}", [strike.row() for strike in report.strikes]))
    for name, reason in report.skipped.items():
        _say(f"not run: {name}: {reason}")
    faults = report.faults()
    _say("\n".join(["", *(f"BROKEN  {fault}" for fault in faults), f"{len(faults)} promises were broken"]))
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of all choices (default 1); a seed repeats its pairs")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which no nemesis begins (default 210)")
    parser.add_argument("--rate", type=float, default=RATE, help="pages, and interactions, a second (default 100)")
    parser.add_argument("--only", action="append", default=[], choices=BY_NAME, metavar="NAME", help="this one; repeat")
    parser.add_argument("--mock", action="store_true", help="librdkafka's mock cluster rather than Apache Kafka")
    parser.add_argument("--judge", action="store_true", help="judge times too: p99 of pages, seconds until personal")
    parser.add_argument("--list", action="store_true", help="list the nemeses, and end")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

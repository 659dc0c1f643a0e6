"""A run: nemeses strike a system under load, one after the other, and what they do is judged."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import grpc

from deploy.local.child_process import Child
from tests.chaos.nemeses.nemesis import Nemesis
from tests.chaos.strike import MAX_SILENT, Strike
from tests.chaos.system.cluster import BRIDGES, RECSVC, Cluster
from tests.consistency.history import Verdict, check
from tests.consistency.readback import Stores, settled

SETTLE_S: Final = 60.0
WINDOW_S: Final = 1.0
"""Pages of so long must be personal before they are said to be so again."""
FALLBACK_POLL_S: Final = 0.2


@dataclass(slots=True)
class Chaos:
    """Strikes a cluster.

    Attributes:
        cluster: It, under load.
        seed: Of all choices.
        seconds: How long each strike lasts.
        patience_s: How long it may take until all is well again.
        window: Pages in a row of which nearly all must be personal then.
        strikes: What came of each so far.
    """

    cluster: Cluster
    seed: int
    seconds: float
    patience_s: float
    window: int
    strikes: list[Strike] = field(default_factory=list)

    def warm_up(self) -> None:
        """Wait until the load gets personal pages."""
        generator = self.cluster.generator
        if generator.wait_personal(0, self.window, timeout_s=self.patience_s) is None:
            last = Counter(f"{call.kind} {call.outcome} {call.why}" for call in generator.calls[-1000:])
            raise RuntimeError(
                f"the load gets no personal pages, before anything is broken: {last.most_common(5)} {generator.problem}"
            )

    def strike(self, kinds: Sequence[type[Nemesis]]) -> Strike | str:
        """Let one nemesis strike, or several at once; return what came of it, or why that cannot be done here."""
        cluster = self.cluster
        rng = random.Random(f"{self.seed} {' '.join(kind.name for kind in kinds)}")
        nemeses = [kind(cluster, rng) for kind in kinds]
        for nemesis in nemeses:
            if reason := nemesis.missing():
                return reason
        ended = frozenset[str]().union(*(nemesis.ends for nemesis in nemeses))
        workers = cluster.workers()
        strike = Strike(
            name=" + ".join(kind.name for kind in kinds),
            moves=any(kind.moves for kind in kinds),
            spares_pages=all(kind.spares_pages for kind in kinds),
            begun=time.monotonic(),
        )
        self._break(nemeses, strike)
        strike.healed, healed_at = time.monotonic(), time.time()
        strike.findings += self._revived(ended, workers)
        strike.back = cluster.generator.wait_personal(strike.healed, self.window, timeout_s=self.patience_s)
        self._check(nemeses, strike, healed_at)
        strike.findings += self._revived(frozenset(), cluster.workers())
        strike.ended = time.monotonic()
        self._look(strike, ended)
        for nemesis in nemeses:
            nemesis.clean()
        self._restore(strike)
        self.strikes.append(strike)
        return strike

    def end(self) -> Verdict:
        """End the load, read everything back, and return what is wrong with it."""
        cluster = self.cluster
        cluster.generator.stop()
        stores = Stores(cluster.peers.environment["KAFKA_BOOTSTRAP_SERVERS"], cluster.peers.environment["DATABASE_URL"])
        verdict = check(settled(stores, cluster.told(), cluster.users(), timeout_s=SETTLE_S))
        lost = {*verdict.lost_in_postgres, *verdict.lost_in_kafka}
        for strike in self.strikes:
            strike.lost = sum(call.event_id in lost for call in strike.calls)
        return verdict

    def _break(self, nemeses: Sequence[Nemesis], strike: Strike) -> None:
        for nemesis in nemeses:
            with _noted(nemesis, "begin", strike):
                nemesis.begin()
        for nemesis in nemeses:
            with _noted(nemesis, "act", strike):
                nemesis.act(self.seconds)
        for nemesis in reversed(nemeses):
            with _noted(nemesis, "end", strike):
                nemesis.end()
            strike.findings += nemesis.findings

    def _check(self, nemeses: Sequence[Nemesis], strike: Strike, healed_at: float) -> None:
        for nemesis in nemeses:
            with _noted(nemesis, "check", strike):
                nemesis.check(self.patience_s)
        if problem := self._wait_for_fallback(healed_at):
            strike.findings.append(problem)

    def _wait_for_fallback(self, since: float) -> str:
        deadline = time.monotonic() + self.patience_s
        while (problem := self.cluster.fallback_problem(since)) and time.monotonic() < deadline:
            time.sleep(FALLBACK_POLL_S)
        return problem

    def _revived(self, ended: frozenset[str], workers: set[int]) -> Iterator[str]:
        """Start again what has ended by itself; yield what that was."""
        for name, server in self.cluster.servers.items():
            child = server.child
            if child and not child.running:
                yield f"{name} ended with status {child.process.returncode}: {_last_cry(child)}"
                server.start()
        gone = workers - self.cluster.workers()
        if gone and not ended & {RECSVC, f"{RECSVC} worker"}:
            yield f"{len(gone)} of recsvc's workers ended"

    def _look(self, strike: Strike, ended: frozenset[str]) -> None:
        watch, generator = self.cluster.watch, self.cluster.generator
        generator.wait_ended(strike.ended)
        strike.calls = generator.between(strike.begun, strike.ended)
        strike.peaks = watch.peaks(strike.begun, strike.ended)
        for name in (RECSVC, *BRIDGES):
            looks = watch.silent(name, strike.begun, strike.ended)
            if looks >= MAX_SILENT and name not in ended:
                strike.silent[name] = looks
        strike.findings += [generator.problem] * bool(generator.problem)

    def _restore(self, strike: Strike) -> None:
        """Wait until the next nemesis finds a whole system, however long ago this one was judged."""
        if strike.back is None or strike.findings:
            self._wait_for_fallback(time.time())
            self.cluster.generator.wait_personal(time.monotonic(), self.window, timeout_s=self.patience_s)


def pairs(kinds: Sequence[type[Nemesis]], seed: int) -> Iterator[tuple[type[Nemesis], type[Nemesis]]]:
    """Yield all pairs, in an order that follows from the seed."""
    found = list(combinations(kinds, 2))
    random.Random(seed).shuffle(found)
    yield from found


def _last_cry(child: Child) -> str:
    """Return the last line of a server's log that is none of its own: what a library or Python said of its end."""
    lines = child.log.read_text(encoding="utf-8", errors="replace").splitlines()[-500:] if child.log else []
    return next((line[:150] for line in reversed(lines) if line.strip() and line[0] not in "{*"), "it left no message")


@contextmanager
def _noted(nemesis: Nemesis, step: str, strike: Strike) -> Iterator[None]:
    """Note what goes wrong in a step, and go on: a fault of the system's must not end the run."""
    try:
        yield
    except AssertionError as error:
        strike.findings.append(str(error)[:200])
    except grpc.RpcError as error:
        strike.findings.append(f"{nemesis.name} ({step}): {error.code().name}")
    except OSError as error:
        strike.findings.append(f"{nemesis.name} ({step}): {error}")

"""Breaks the system by a plan that follows from a seed."""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.jepsen.cluster import Cluster

RESTARTS: Final = frozenset({"restart kafka", "kill bridge", "restart postgres"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what is done, to whom, and for how many seconds."""

    name: str
    seconds: float

    @property
    def target(self) -> str:
        """Whom it hits."""
        return self.name.split()[-1]


NAMES: Final = (
    "kill bridge",
    "hang kafka",
    "restart kafka",
    "hang postgres",
    "restart postgres",
    "cut clients",
    "cut postgres",
    "cut kafka",
    "swallow kafka",
)


def plan(seed: int, *, steps: int) -> list[list[Fault]]:
    """Return the steps of a run: in each, one fault, or two at once that hit different targets."""
    rng = random.Random(seed)
    steps_planned = []
    for _ in range(steps):
        faults = [Fault(rng.choice(NAMES), round(rng.uniform(0.3, 2.5), 2))]
        if rng.random() < 0.4:
            second = Fault(rng.choice(NAMES), round(rng.uniform(0.3, 1.5), 2))
            faults += [second] * (second.target != faults[0].target)
        steps_planned.append(faults)
    return steps_planned


class Nemesis:
    """Carries a plan out, from the main thread."""

    def __init__(self, cluster: Cluster, *, loud: bool) -> None:
        self._cluster = cluster
        self._loud = loud

    def run(self, steps: list[list[Fault]], *, pause_s: float) -> None:
        """Break and heal, step by step; everything works again at the end."""
        for faults in steps:
            if self._loud:
                sys.stdout.write("  " + " + ".join(f"{fault.name} {fault.seconds:g} s" for fault in faults) + "\n")
                sys.stdout.flush()
            heals = []
            for fault in faults:
                heals.append(self._break(fault))
                time.sleep(fault.seconds)
            for heal in reversed(heals):
                heal()
            time.sleep(pause_s)

    def _break(self, fault: Fault) -> Callable[[], None]:
        """Start a fault, and return what ends it."""
        cluster = self._cluster
        verb = fault.name.split()[0]
        if verb == "cut":
            cluster.cut(fault.target)
            return lambda: None
        if verb == "swallow":
            cluster.kafka_link.swallowing = True
            return lambda: setattr(cluster.kafka_link, "swallowing", False)
        child = cluster.child(fault.target)
        if verb == "hang":
            child.suspend()
            return child.resume
        child.kill()
        return lambda: cluster.start(fault.target)

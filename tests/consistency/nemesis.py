"""Breaks the system by a plan that follows from a seed."""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.consistency.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what is done, to whom, and for how many seconds."""

    name: str
    seconds: float

    @property
    def verb(self) -> str:
        """What is done."""
        return self.name.split()[0]

    @property
    def target(self) -> str:
        """Whom it hits."""
        return self.name.split()[-1]


LINK_FAULTS: Final = ("cut", "clip", "mute")
PAIRS: Final = 0.4
BLACKOUTS: Final = 0.15
CLIPS_A_SECOND: Final = 4


def names(bridges: int) -> list[str]:
    """Return the faults there are.

    kill: SIGKILL, started again on its data. hang: SIGSTOP. cut: all connections break. clip: single replies end in
    their middle. mute: replies are held back. swallow: acknowledgements are lost. fill: the disk is full. lock: it is
    read-only, as a standby is. A number says whose link it is, or which bridge; the first bear none.
    """
    servers = ("bridge", "kafka", "postgres")
    found = [f"{verb} {server}" for verb in ("kill", "hang") for server in servers]
    found += [f"{verb} {link}" for verb in LINK_FAULTS for link in ("clients", "kafka", "postgres")]
    found += ["swallow kafka", "fill postgres", "lock postgres"]
    for number in range(2, bridges + 1):
        found += [f"{verb} bridge-{number}" for verb in ("kill", "hang")]
        found += [f"{verb} {link}-{number}" for verb in LINK_FAULTS for link in ("clients", "postgres")]
    return found


def plan(seed: int, *, steps: int, bridges: int = 1) -> list[list[Fault]]:
    """Return the steps of a run: in each one fault, or two at once on different targets, or all servers are killed."""
    rng = random.Random(seed)
    known = names(bridges)
    servers = tuple(name.removeprefix("kill ") for name in known if name.startswith("kill "))
    steps_planned = []
    for _ in range(steps):
        if rng.random() < BLACKOUTS:
            killed = rng.sample(servers, k=len(servers))
            steps_planned.append([Fault(f"kill {server}", round(rng.uniform(0.1, 1.5), 2)) for server in killed])
            continue
        faults = [Fault(rng.choice(known), round(rng.uniform(0.5, 3.0), 2))]
        if rng.random() < PAIRS:
            second = Fault(rng.choice(known), round(rng.uniform(0.3, 1.5), 2))
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
        match fault.verb:
            case "kill":
                self._cluster.child(fault.target).kill()
                return partial(self._cluster.start, fault.target)
            case "hang":
                child = self._cluster.child(fault.target)
                child.suspend()
                return child.resume
            case "fill":
                return self._cluster.disk.fill(self._cluster.revive_postgres)
            case "lock":
                self._cluster.lock_postgres(locked=True)
                return partial(self._cluster.lock_postgres, locked=False)
            case _:
                return self._disturb(fault)

    def _disturb(self, fault: Fault) -> Callable[[], None]:
        """Start a fault of a link."""
        cluster = self._cluster
        link = cluster.links[fault.target]
        match fault.verb:
            case "cut":
                cluster.loop.call(link.cut)
                return lambda: None
            case "clip":
                link.clips = 1 + round(CLIPS_A_SECOND * fault.seconds)
                return lambda: setattr(link, "clips", 0)
            case "mute":
                cluster.loop.call(link.mute)
                return lambda: cluster.loop.call(link.unmute)
        cluster.kafka_link.swallowing = True
        return lambda: setattr(cluster.kafka_link, "swallowing", False)

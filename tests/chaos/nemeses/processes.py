"""Nemeses of processes: stalled, terminated one after the other, killed; and one whose clock is wrong."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc

from deploy.local.child_process import Child
from deploy.local.program import Service
from tests.chaos.nemeses.nemesis import Nemesis
from tests.chaos.system.cluster import BRIDGES, POISON, RECSVC, Cluster, start_bridge
from tests.support.polling import wait_for
from videowindow.feed.v1 import interaction_pb2 as pb
from videowindow.feed.v1.interaction_pb2_grpc import InteractionServiceStub

STALL_S: Final = 3.0
AHEAD_S: Final = 30 * 24 * 3600
EVENTS: Final = 20
RESTART_S: Final = 60.0
ALL_SERVE: Final = '"workers.all_serving"'
AHEAD: Final = Path(__file__).parents[1] / "ahead"


class Stall(Nemesis):
    """recsvc hangs for three seconds (SIGSTOP) and goes on."""

    name: ClassVar[str] = "stall of recsvc"
    spares_pages: ClassVar[bool] = False
    ends: ClassVar[frozenset[str]] = frozenset({RECSVC})

    def begin(self) -> None:
        """Stop it."""
        child_of(self.cluster.recsvc).suspend()

    def act(self, seconds: float) -> None:
        """Leave it so."""
        time.sleep(max(seconds, STALL_S))

    def end(self) -> None:
        """Let it go on."""
        child_of(self.cluster.recsvc).resume()


class Killing(Nemesis):
    """recsvc and its workers are killed (SIGKILL), and started again after a while."""

    name: ClassVar[str] = "kill of recsvc"
    spares_pages: ClassVar[bool] = False
    ends: ClassVar[frozenset[str]] = frozenset({RECSVC})

    def begin(self) -> None:
        """Kill it."""
        child_of(self.cluster.recsvc).kill()

    def end(self) -> None:
        """Start it."""
        self.cluster.recsvc.start()


class WorkerTermination(Nemesis):
    """recsvc's workers get SIGTERM, one after the other has been replaced."""

    name: ClassVar[str] = "terminated workers"
    ends: ClassVar[frozenset[str]] = frozenset({f"{RECSVC} worker"})

    def begin(self) -> None:
        """Wait for act."""

    def act(self, seconds: float) -> None:
        """End them in turn."""
        begun = time.monotonic()
        for worker in sorted(self.cluster.workers()):
            whole = self._times_whole()
            os.kill(worker, signal.SIGTERM)
            wait_for(
                lambda before=whole: self._times_whole() > before,  # type: ignore[misc]  # bound
                timeout_s=RESTART_S,
                interval_s=0.1,
                what="another worker that serves",
            )
        time.sleep(max(0.0, seconds - (time.monotonic() - begun)))

    def _times_whole(self) -> int:
        """Return how often all workers have come to serve, as recsvc tells."""
        return self.cluster.recsvc.log.read_text(encoding="utf-8").count(ALL_SERVE)


class FollowerKilling(Nemesis):
    """The process that follows Kafka for recsvc is killed (SIGKILL) again and again, and replaced each time."""

    name: ClassVar[str] = "killed follower"

    def begin(self) -> None:
        """Wait for act."""

    def act(self, seconds: float) -> None:
        """Kill it whenever it is there."""
        end = time.monotonic() + seconds
        while True:
            killed = wait_for(self.cluster.follower, timeout_s=RESTART_S, what="a follower")
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            wait_for(
                lambda before=killed: self.cluster.follower() not in (None, before),  # type: ignore[misc]  # bound
                timeout_s=RESTART_S,
                interval_s=0.1,
                what="another follower",
            )
            if time.monotonic() >= end:
                return


class BridgeRestart(Nemesis):
    """The bridges get SIGTERM and start again, one after the other; clients turn to the one that is there."""

    name: ClassVar[str] = "rolling restart of the bridges"
    moves: ClassVar[bool] = True
    ends: ClassVar[frozenset[str]] = frozenset(BRIDGES)

    def begin(self) -> None:
        """Wait for act."""

    def act(self, seconds: float) -> None:
        """End them in turn, for so long at most, but one at least."""
        begun = time.monotonic()
        for name in self.rng.sample(BRIDGES, len(BRIDGES)):
            bridge = self.cluster.bridges[name]
            child = child_of(bridge)
            bridge.stop()
            if child.process.returncode:
                self.findings.append(f"{name} ended with status {child.process.returncode} after SIGTERM")
            bridge.start()
            if time.monotonic() - begun > seconds:
                break


class WrongClock(Nemesis):
    """Another bridge, whose clock is 30 days ahead, takes in interactions."""

    name: ClassVar[str] = "wrong clock of a bridge"

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._bridge: Service | None = None

    def begin(self) -> None:
        """Start it, and record events by it."""
        environment = {"PYTHONPATH": str(AHEAD), "CHAOS_AHEAD_S": str(AHEAD_S)}
        self._bridge = start_bridge(self.cluster, "bridge-ahead", **environment)
        with self.cluster.channel(self._bridge.address) as channel:
            stub: Any = InteractionServiceStub(channel)
            # One that was just started may refuse the first ones.
            wait_for(
                lambda: self._is_taken_in(stub, 0), timeout_s=RESTART_S, interval_s=0.2, what="an event's taking in"
            )
            for number in range(1, EVENTS):
                self._is_taken_in(stub, number)

    def end(self) -> None:
        """End it."""
        if self._bridge:
            self._bridge.stop()

    def clean(self) -> None:
        """Forget its events."""
        self.cluster.remove_poison()

    def _is_taken_in(self, stub: Any, number: int) -> bool:
        user = f"{POISON}clock"
        metadata = self.cluster.bearer(user, exp=int(time.time()) + 2 * AHEAD_S)
        event = pb.Interaction(user_id=user, video_id=f"v{number % 2}", interaction_type=pb.INTERACTION_TYPE_LIKE)
        try:
            stub.RecordInteraction(pb.RecordInteractionRequest(interaction=event), timeout=5, metadata=metadata)
        except grpc.RpcError as error:
            # It may find out that its clock is wrong, and say so.
            return error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return True


def child_of(service: Service) -> Child:
    """Return a server's process."""
    assert service.child is not None
    return service.child

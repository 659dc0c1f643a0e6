"""Nemeses of what the system depends on: names, the model store, disks."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc

from tests.chaos.nemeses.nemesis import Attack, Nemesis
from tests.chaos.system.cluster import CHANNELS, RECSVC, Cluster
from tests.chaos.system.names import NameServer
from tests.support.polling import wait_for
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb
from videowindow.lightfm.v2025_9.lightfm_recommendation_pb2_grpc import ModelServiceStub

AT_ONCE: Final = 8
CALL_S: Final = 5.0


class HungAgentName(Nemesis):
    """The metrics agent is gone, and looking its name up hangs."""

    name: ClassVar[str] = "hung name of the agent"

    def missing(self) -> str:
        """Names can hang only where there is a name server."""
        return NameServer.missing()

    def begin(self) -> None:
        """Close the agent's port, so that it is looked up again."""
        _names(self.cluster).is_hung = True
        self.cluster.agent.close()

    def end(self) -> None:
        """Open it."""
        self.cluster.agent.open()
        _names(self.cluster).is_hung = False


class HungEndpointName(Nemesis):
    """recsvc is killed and started again, and looking its name up hangs."""

    name: ClassVar[str] = "hung name of recsvc"
    spares_pages: ClassVar[bool] = False
    ends: ClassVar[frozenset[str]] = frozenset({RECSVC})

    def missing(self) -> str:
        """Names can hang only where there is a name server."""
        return NameServer.missing()

    def begin(self) -> None:
        """Break the bridges' connections."""
        _names(self.cluster).is_hung = True
        _kill(self.cluster)
        self.cluster.recsvc.start()

    def end(self) -> None:
        """Let names be found."""
        _names(self.cluster).is_hung = False


class HungStore(Nemesis):
    """The model store takes requests and answers none, while 8 calls a connection activate and reload models."""

    name: ClassVar[str] = "hung model store"

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._attack: Attack | None = None
        self._channels: list[grpc.Channel] = []

    def begin(self) -> None:
        """Hang, and ask."""
        self.cluster.store.hang()
        self._channels = [self.cluster.channel(self.cluster.recsvc.address) for _ in range(CHANNELS)]
        self._attack = Attack(self._ask)

    def end(self) -> None:
        """Answer."""
        self.cluster.store.heal()
        if self._attack:
            self._attack.stop()
        for channel in self._channels:
            channel.close()

    def check(self, patience_s: float) -> None:
        """Models can be activated again."""
        version = self.cluster.model_versions[-1]
        _wait_activated(self.cluster, version, patience_s)

    def _ask(self) -> None:
        """Call 8 times at once by each connection."""
        version = self.cluster.model_versions[-1]
        calls = []
        for channel in self._channels:
            stub: Any = ModelServiceStub(channel)
            for _ in range(AT_ONCE // 2):
                calls.append(stub.ActivateModel.future(pb.ActivateModelRequest(version=version), timeout=CALL_S))
                calls.append(stub.ReloadModel.future(pb.ReloadModelRequest(), timeout=CALL_S))
        for call in calls:
            call.exception()  # when it has ended, however that was


class FullDisk(Nemesis):
    """The disk of recsvc's models and of the bridges' rankings is full, while another model goes live."""

    name: ClassVar[str] = "full disk"

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self._give_back: Callable[[], None] = lambda: None
        self._version = ""

    def missing(self) -> str:
        """Only a disk of its own can be full."""
        return "" if self.cluster.disk.small else "no file system may be mounted here"

    def begin(self) -> None:
        """Fill it."""
        self._give_back = self.cluster.disk.fill(lambda: None)
        self._version = self.cluster.publish(self.rng.randrange(1 << 30))

    def end(self) -> None:
        """Empty it."""
        self._give_back()

    def check(self, patience_s: float) -> None:
        """The new model is served, and the rankings are kept again."""
        _wait_activated(self.cluster, self._version, patience_s)
        wait_for(
            lambda: self.cluster.live_version() == self._version,
            timeout_s=patience_s,
            interval_s=0.2,
            what="the model published while the disk was full",
        )
        kept = [Path(self.cluster.disk.folder, f"trending-{name}.json") for name in self.cluster.bridges]
        wait_for(lambda: all(path.exists() for path in kept), timeout_s=patience_s, what="the rankings' copies")


def _names(cluster: Cluster) -> NameServer:
    assert cluster.names is not None
    return cluster.names


def _kill(cluster: Cluster) -> None:
    child = cluster.recsvc.child
    assert child is not None
    child.kill()


def _wait_activated(cluster: Cluster, version: str, patience_s: float) -> None:
    """Wait until recsvc takes the version for the live one."""
    with cluster.channel(cluster.recsvc.address) as channel:
        stub: Any = ModelServiceStub(channel)

        def activated() -> bool:
            try:
                stub.ActivateModel(pb.ActivateModelRequest(version=version), timeout=CALL_S)
            except grpc.RpcError:
                return False
            return True

        wait_for(activated, timeout_s=patience_s, interval_s=0.2, what="a model's activation")

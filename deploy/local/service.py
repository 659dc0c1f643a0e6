"""One of the system's own servers: how it is started, and when it serves."""

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.child import Child

ROOT: Final = Path(__file__).parents[2]
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 15.0
PROBE_TIMEOUT_S: Final = 1.0


@dataclass(slots=True)
class Service:
    """A Python package that is run as a gRPC server.

    Attributes:
        name: The package's name.
        address: `host:port` that it listens on.
        env: Its whole environment.
        log: File that its output is added to.
        child: The running process.
    """

    name: str
    address: str
    env: Mapping[str, str]
    log: Path
    child: Child | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, and return when it serves; ChildError when it does not."""
        self.child = Child.start(self.name, [sys.executable, "-m", self.name], log=self.log, env=self.env, cwd=ROOT)
        self.child.wait_until(lambda: serves(self.address), timeout_s=START_TIMEOUT_S, what="did not serve")

    def stop(self) -> None:
        """End it in order."""
        if self.child:
            self.child.stop(timeout_s=STOP_TIMEOUT_S)


def serves(address: str) -> bool:
    """Return whether the server's health says SERVING."""
    with closing(grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
            reply = check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

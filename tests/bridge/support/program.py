"""`python -m bridge` in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.child_process import Child
from tests.support.polling import wait_for

ROOT = Path(__file__).parents[3]
FEED = "videowindow.feed.v1.FeedService"
INTERACTIONS = "videowindow.feed.v1.InteractionService"


class Program:
    """A bridge process in a folder of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.log = folder / "bridge.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
            "BRIDGE_LISTEN": "127.0.0.1:0",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self.command = [sys.executable, "-m", "bridge"]
        self.child: Child | None = None
        self.port = 0

    def start(self) -> str:
        """Start it, and return its address once its health says SERVING."""
        self.log.unlink(missing_ok=True)
        self.child = Child.start("bridge", self.command, log=self.log, cwd=self.folder, env=self.environment)
        self.child.wait_until(lambda: bool(self.events("server.listening")), timeout_s=20)
        self.port = self.events("server.listening")[0]["port"]
        wait_for(lambda: self.health() == "SERVING", what="SERVING")
        return f"127.0.0.1:{self.port}"

    def stop(self) -> int:
        """End it by SIGTERM, and return its exit status."""
        assert self.child is not None
        self.child.process.terminate()
        return self.child.process.wait(20)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's events of a name."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in parsed if event["event"] == name]

    def health(self) -> str:
        """Return what its health service says."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
            reply = check(health_pb2.HealthCheckRequest(service=FEED), timeout=5)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, "-m", "bridge", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

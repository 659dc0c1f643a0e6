"""A recsvc that fails as it is told to: each call takes the next step of a script.

Run as `python -m tests.bridge.fault_server <port>`, it serves pages in a process that can be stopped and killed.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from grpc import StatusCode, aio

from servicekit.grpc.errors import ServiceError, to_status
from servicekit.server.grpc_server import AioServer
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

SERVICE: Final = "videowindow.lightfm.v2025_9.RecommendationService"
CATALOGUE: Final = tuple(f"v{number:03}" for number in range(100))


@dataclass(frozen=True, slots=True)
class Step:
    """What one call meets.

    Attributes:
        code: How it ends; OK replies with a page.
        delay_s: Seconds before it ends.
        reason: `ErrorInfo.reason` of a failure.
    """

    code: StatusCode = StatusCode.OK
    delay_s: float = 0.0
    reason: str = "SCRIPTED"


@dataclass
class FaultServer:
    """Serves pages of `CATALOGUE`, best first, minus the excluded videos.

    Attributes:
        script: Steps of the next calls.
        otherwise: The step of calls after the script.
        requests: What was asked, in order.
        granted_s: The time that each call had until its deadline.
        metadata: What each call brought along.
        hung_up: Calls whose caller went away before they ended.
        port: Where it listens.
    """

    script: deque[Step] = field(default_factory=deque)
    otherwise: Step = Step()  # frozen
    requests: list[pb.RecommendRequest] = field(default_factory=list)
    granted_s: list[float | None] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    hung_up: int = 0
    port: int = 0

    def play(self, *steps: Step, otherwise: Step = Step()) -> None:  # frozen
        """Forget what was, and follow this script."""
        self.script = deque(steps)
        self.otherwise = otherwise
        self.requests.clear()
        self.granted_s.clear()
        self.metadata.clear()
        self.hung_up = 0

    async def recommend(
        self, request: pb.RecommendRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RecommendResponse:
        """Take the next step."""
        step = self.script.popleft() if self.script else self.otherwise
        self.requests.append(request)
        self.granted_s.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata() or ()))
        try:
            await asyncio.sleep(step.delay_s)
        except asyncio.CancelledError:
            self.hung_up += 1
            raise
        if step.code is not StatusCode.OK:
            await context.abort_with_status(to_status(ServiceError(step.code, step.reason, "as scripted")))
        return _page(request)

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"


def _page(request: pb.RecommendRequest) -> pb.RecommendResponse:
    excluded = set(request.exclude_video_ids)
    wanted = [video for video in CATALOGUE if video not in excluded]
    if request.HasField("filter"):
        wanted = []
    videos = [pb.ScoredVideo(video_id=video, score=1.0) for video in wanted[: request.page_size]]
    return pb.RecommendResponse(
        videos=videos,
        next_page_token="more" if len(wanted) > request.page_size else "",
        algorithm="lightfm-warp",
        model_version="20251101T020000Z",
    )


@asynccontextmanager
async def running_fault_server(*, port: int = 0) -> AsyncIterator[FaultServer]:
    """Run a fault server, on a free port unless one is given, until the block ends."""
    server, faults = AioServer([SERVICE]), FaultServer()
    handler = grpc.unary_unary_rpc_method_handler(
        faults.recommend, pb.RecommendRequest.FromString, pb.RecommendResponse.SerializeToString
    )
    server.add_methods(SERVICE, {"Recommend": handler})
    faults.port = await server.start(f"127.0.0.1:{port}")
    await server.set_serving(serving=True)
    try:
        yield faults
    finally:
        await server.drain(0)


async def main() -> None:
    """Serve until the process is ended."""
    async with running_fault_server(port=int(sys.argv[1])):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

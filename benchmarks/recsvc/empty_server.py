"""Serves an empty gRPC call: `python -m benchmarks.recsvc.empty_server <reply> <threads> <kind>`.

`<reply>` is a file with a serialised `RecommendResponse`. It prints its port and answers every `Recommend` with that
reply: as its bytes, without a look at the request, on gRPC's thread-pool server (`bytes`) or as recsvc answers unary
calls (`direct`), or, on gRPC's server, as what any handler that uses messages does at least: read the request and build
the reply from the videos' identifiers and scores (`messages`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks.feed.fault_proxy import SERVICE
from servicekit.grpc_core.direct_unary_calls import UnaryCalls
from servicekit.server.server_options import OPTIONS
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb


def of_bytes(reply: bytes) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Return the handler that does nothing."""

    def recommend(_: bytes, __: grpc.ServicerContext) -> bytes:
        return reply

    return grpc.unary_unary_rpc_method_handler(recommend)


def of_messages(reply: bytes) -> grpc.RpcMethodHandler[pb.RecommendRequest, pb.RecommendResponse]:
    """Return the handler that reads a request and builds a reply."""
    model = pb.RecommendResponse.FromString(reply)
    videos = [(video.video_id, video.score) for video in model.videos]
    token, algorithm, version, trained_at = (
        model.next_page_token,
        model.algorithm,
        model.model_version,
        model.model_trained_at,
    )

    def recommend(request: pb.RecommendRequest, _: grpc.ServicerContext) -> pb.RecommendResponse:
        page = videos[: request.page_size] if request.user_id else []
        return pb.RecommendResponse(
            videos=[pb.ScoredVideo(video_id=video_id, score=score) for video_id, score in page],
            next_page_token=token,
            algorithm=algorithm,
            model_version=version,
            model_trained_at=trained_at,
            user_state=pb.USER_STATE_TRAINED,
        )

    return grpc.unary_unary_rpc_method_handler(
        recommend, pb.RecommendRequest.FromString, pb.RecommendResponse.SerializeToString
    )


KINDS: Final[dict[str, Callable[[bytes], grpc.RpcMethodHandler[Any, Any]]]] = {
    "bytes": of_bytes,
    "direct": of_bytes,
    "messages": of_messages,
}


def serve(reply: bytes, threads: int, kind: str) -> None:
    """Serve until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(threads), options=OPTIONS)
    handler = KINDS[kind](reply)
    direct = UnaryCalls(server, threads) if kind == "direct" else None
    if direct:
        direct.add(f"/{SERVICE}/Recommend", handler)
    else:
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Recommend": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    if direct:
        direct.begin()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), sys.argv[3])

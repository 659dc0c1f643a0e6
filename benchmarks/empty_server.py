"""The least that a gRPC server of recsvc's kind can do: `python -m benchmarks.empty_server <bytes> <threads>`.

It prints its port, and answers every `Recommend` with that many bytes, without looking at the request.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.fault_proxy import SERVICE
from servicekit.lifecycle import OPTIONS


def serve(reply: bytes, threads: int) -> None:
    """Serve until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(threads), options=OPTIONS)

    def recommend(_: bytes, __: grpc.ServicerContext) -> bytes:
        return reply

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(recommend)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Recommend": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(bytes(int(sys.argv[1])), int(sys.argv[2]))

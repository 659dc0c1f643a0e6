"""`python -m deploy.probe host:port`: exit with 0 if the server's health is SERVING, else with 1.

With TLS_CERT_FILE, TLS_KEY_FILE and TLS_CA_FILE it presents that certificate, as servers beyond loopback demand.
"""

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit.credentials.tls_files import TlsFiles

TIMEOUT_S: Final = 2.0


def serves(address: str, tls: TlsFiles | None = None) -> bool:
    """Return whether the server's health is SERVING."""
    return health(address, tls) == health_pb2.HealthCheckResponse.SERVING


def health(address: str, tls: TlsFiles | None = None) -> int | None:
    """Return the server's health, None if it does not answer."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.secure_channel(address, tls.channel(), options) if tls else grpc.insecure_channel(address, options)
    with closing(channel):
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # the stubs lack it
        try:
            reply = check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return None
    return int(reply.status)


def main() -> None:
    """Probe the server once."""
    names = ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE")
    certificate, key, authority = (Path(value) if (value := os.environ.get(name)) else None for name in names)
    sys.exit(not serves(sys.argv[1], TlsFiles.of(certificate, key, authority)))


if __name__ == "__main__":
    main()

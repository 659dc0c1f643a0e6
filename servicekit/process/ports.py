"""Finds free TCP ports of this machine."""

import secrets
import socket
from typing import Final

PORTS: Final = range(10_000, 32_768)
"""Ports to choose from: Linux takes those above for the near end of any connection, soon after they were found free."""


def free_port() -> int:
    """Return a free loopback port, which another server may still take first."""
    while not is_free("127.0.0.1", port := secrets.choice(PORTS)):
        pass
    return port


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on an address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    """Return whether a server accepts connections on this loopback port."""
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) == 0

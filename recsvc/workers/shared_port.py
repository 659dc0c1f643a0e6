"""A port that several processes of this program may listen on, and nobody else."""

import socket
from typing import Final, Self

_SHARED: Final = socket.SO_REUSEPORT
_LAST: Final = 65_535
"""The highest port; larger numbers would be taken modulo the next one."""


class SharedPort:
    """Holds the port without listening, so that it stays this program's while its workers come and go.

    Args:
        address: `host:port` with the port that is held.
        held: The bound socket.
    """

    def __init__(self, address: str, held: socket.socket) -> None:
        self.address = address
        self._held = held

    @classmethod
    def reserve(cls, address: str) -> Self:
        """Reserve `host:port`, any free port when it is 0; OSError when it is taken, ValueError when it is none."""
        host, _, number = address.rpartition(":")
        if not host or not number.isdecimal() or int(number) > _LAST:
            raise ValueError(f"RECSVC_LISTEN: {address!r} is not host:port, which several workers need")
        family, kind, _, _, place = socket.getaddrinfo(host.strip("[]"), int(number), type=socket.SOCK_STREAM)[0]
        # Alone first: sharing would also succeed beside another program of this kind, and take half of its calls.
        with socket.socket(family, kind) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(alone, place, address)
            port = alone.getsockname()[1]
        held = socket.socket(family, kind)
        held.setsockopt(socket.SOL_SOCKET, _SHARED, 1)
        _bind(held, (place[0], port, *place[2:]), address)
        return cls(f"{host}:{port}", held)

    def release(self) -> None:
        """Release the port for other programs."""
        self._held.close()


def _bind(one: socket.socket, place: "tuple[object, ...]", address: str) -> None:
    try:
        one.bind(place)
    except OSError as error:
        one.close()
        raise OSError(f"Failed to bind to address {address}: {error.strerror}") from None

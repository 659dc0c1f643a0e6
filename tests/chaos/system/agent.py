"""A Datadog agent's UDP port that can be closed and opened again."""

import socket


class Agent:
    """Takes packets, and looks at none."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.port = 0
        self.open()

    def open(self) -> None:
        """Take packets, on the port that it had before."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]

    def close(self) -> None:
        """Refuse packets: who sends one learns of it, and looks the agent up again."""
        if self._socket:
            self._socket.close()
            self._socket = None

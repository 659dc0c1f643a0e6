"""A worker's link to its supervisor: tells when the worker serves, and learns when the supervisor is gone."""

import os
import socket
import threading
from contextlib import suppress
from typing import Final, Self

ENVIRONMENT: Final = "RECSVC_SUPERVISOR_FD"
"""Environment variable with the descriptor of the worker's end."""


class SupervisorLink:
    """The worker's end of the link to its supervisor.

    Args:
        end: A connected socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def inherited(cls) -> Self | None:
        """Return the link that this process was started with, None when it is nobody's worker."""
        descriptor = os.environ.pop(ENVIRONMENT, None)
        return cls(socket.socket(fileno=int(descriptor))) if descriptor else None

    def tell_serving(self) -> None:
        """Tell the supervisor that this worker serves."""
        with suppress(OSError):  # the supervisor is gone: `watch` learns of it
            self._end.send(b"1")

    def watch(self, stopping: threading.Event) -> None:
        """Set the event when the supervisor is gone: nobody would ever end this worker."""
        threading.Thread(target=self._watch, args=(stopping,), name="supervisor-link", daemon=True).start()

    def _watch(self, stopping: threading.Event) -> None:
        with suppress(OSError):
            self._end.recv(1)
        stopping.set()

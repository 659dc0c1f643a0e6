"""Keeps a unit test from what it must not need: it fails at the call."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, Final

import grpc
import pytest
from grpc import aio

FORBIDDEN: Final[tuple[tuple[Any, str], ...]] = (
    (socket.socket, "bind"),
    (socket.socket, "connect"),
    (socket.socket, "connect_ex"),
    (socket.socket, "sendto"),
    (subprocess.Popen, "__init__"),
    (BaseProcess, "start"),
    (os, "fork"),
    (os, "posix_spawn"),
    (grpc, "server"),
    (aio, "server"),
)
"""What opens a way out. A pair of sockets does not: each event loop has one."""


@contextmanager
def isolated() -> Iterator[None]:
    """Let whatever opens a socket or starts a process fail the test."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in FORBIDDEN:
            patch.setattr(owner, name, _refusal(f"{owner.__name__}.{name}", getattr(owner, name)))
        yield


def _refusal(what: str, original: Any) -> Any:
    tester = threading.current_thread()

    def refuse(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread() is not tester:  # left by another test, as a sender of metrics may be
            return original(*arguments, **named)
        pytest.fail(f"a unit test may not call {what}: mark it with what it needs, see CONTRIBUTING.md")

    return refuse

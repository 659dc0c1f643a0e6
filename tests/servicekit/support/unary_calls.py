"""Methods that wait, fail or never end."""

import contextvars
import sys
import threading
from typing import Final

import grpc

THREADS: Final = 3


LOCAL: Final = [("grpc.use_local_subchannel_pool", 1)]


VARIABLE: Final = contextvars.ContextVar("VARIABLE", default="unset")


class Gate:
    """A method that answers when it is opened, and counts whom it let in."""

    def __init__(self) -> None:
        self.entered: list[bytes] = []
        self.opened = threading.Event()

    def handle(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        self.entered.append(request)
        assert self.opened.wait(20)
        return request


def echo(request: bytes, _: grpc.ServicerContext) -> bytes:
    return request


def metadata(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("told", dict(context.invocation_metadata())["asked"]),))
    return str(context.time_remaining()).encode()


def leave(_: bytes, __: grpc.ServicerContext) -> bytes:
    sys.exit("no way to end a call")


def unsendable(_: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("No Such Key", "value"),))
    return b""


def variable(request: bytes, _: grpc.ServicerContext) -> bytes:
    found = VARIABLE.get()
    VARIABLE.set(request.decode())
    return found.encode()

"""Answers one kind of calls in threads of its own, so that no other kind waits behind it.

A call takes a thread when its message has come, and not before. When all threads are taken some calls wait; beyond
them, calls are refused at once.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final, Self

import grpc
import structlog

from servicekit.grpc.error_mapping import Handler
from servicekit.grpc.limits import crowded
from servicekit.grpc_core.conversation import Conversation, Conversations
from servicekit.grpc_core.direct_unary_calls import Ended, Method, UnaryContext

OPEN: Final = 1_000
"""Calls of a kind that may be open, nearly all of them waiting for their message."""

logger = structlog.get_logger(__name__)


class CallContext(UnaryContext):
    """The part of a `grpc.ServicerContext` that handlers of calls with several replies use."""

    __slots__ = ("_callbacks", "_conversation")

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation.event)
        self._conversation = conversation
        self._callbacks: list[Callable[[], None]] = []
        conversation.at_end(self._end)

    def is_active(self) -> bool:
        """Return whether the caller still listens."""
        return self._conversation.is_open

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Register a function to call when the call ends; return False if it has."""
        self._callbacks.append(callback)
        return self.is_active()

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Send headers before the first reply; grpc.RpcError if the caller is gone."""
        if not self._conversation.send_headers(metadata):
            raise grpc.RpcError

    def _end(self) -> None:
        for callback in self._callbacks:
            callback()


class Bulkhead:
    """Answers calls of one request, with one reply or several.

    Args:
        server: Not started yet.
        name: Of the kind of call.
        running: Calls handled at once.
        waiting: Calls that may wait for a thread.
    """

    def __init__(self, server: grpc.Server, name: str, *, running: int, waiting: int) -> None:
        self.conversations = Conversations(server, name, limit=OPEN)
        self._name = name
        self._room = threading.Semaphore(running + waiting)
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-work-{n}", daemon=True) for n in range(running)
        ]

    def add(self, name: str, handler: Handler) -> None:
        """Answer a method, named in full; before the server is started."""
        method = Method(self.conversations.completions, name, handler)
        self.conversations.add(
            name, lambda conversation: conversation.receive(partial(self._take, method, conversation))
        )

    def begin(self) -> None:
        """Answer calls from now on; the server has just been started."""
        self.conversations.completions.begin()
        for thread in self._threads:
            thread.start()

    def _take(self, method: Method, conversation: Conversation, data: bytes | None) -> None:
        if data is None:
            conversation.finish(grpc.StatusCode.UNIMPLEMENTED, "one request message is required")
        elif self._room.acquire(blocking=False):
            conversation.is_busy = True
            self._work.put(partial(self._answer, method, conversation, data))
        else:
            conversation.fail(crowded(self._name))

    def _run(self) -> None:
        while True:
            work = self._work.get()
            try:
                contextvars.Context().run(work)
            except BaseException:  # the thread is for all calls
                logger.exception("rpc.defect")
            finally:
                self._room.release()
            del work

    def _answer(self, method: Method, conversation: Conversation, data: bytes) -> None:
        if not conversation.is_open:
            return  # the caller gave up while it waited
        context = CallContext(conversation)
        try:
            behaviour = method.behaviour(conversation.event.invocation_metadata)
            answer = behaviour(method.decode(data), context)
            with _Sender(conversation) as sender:
                for reply in answer if method.is_stream else (answer,):
                    if not sender.send(method.encode(reply)):
                        break
        except (Ended, grpc.RpcError):
            pass
        except BaseException:  # such as SystemExit: the thread is for all calls
            context.fail(grpc.StatusCode.INTERNAL, "internal error")
            logger.exception("rpc.defect", method=method.name)
        conversation.finish(context.code, context.details, context.trailing_metadata)


class _Sender:
    """Sends replies one after the other; the next one can be made while one is sent."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._is_free = threading.Semaphore(1)

    def send(self, data: bytes) -> bool:
        """Send a reply once the one before is sent; return whether the caller still listens."""
        self._is_free.acquire()
        if self._conversation.send(data, self._is_free.release):
            return True
        self._is_free.release()
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_free.acquire()  # until all are sent

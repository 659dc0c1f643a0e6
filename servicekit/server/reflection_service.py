"""Serves reflection in a thread server: no thread waits for a caller's next question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from servicekit.grpc_core.conversation import Conversation, Conversations

OPEN: Final = 100
"""Streams that may be open."""


class ReflectionService:
    """Describes services and their messages.

    Args:
        server: Not started yet.
        services: Their full names.
    """

    def __init__(self, server: grpc.Server, services: Sequence[str]) -> None:
        self._servicer: Any = reflection.ReflectionServicer(services)
        self.conversations = Conversations(server, "reflection", limit=OPEN)
        self.conversations.add(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo", self._listen)

    def begin(self) -> None:
        """Answer calls from now on; the server has just been started."""
        self.conversations.completions.begin()

    def _listen(self, conversation: Conversation) -> None:
        conversation.receive(partial(self._answer, conversation))

    def _answer(self, conversation: Conversation, data: bytes | None) -> None:
        if data is None:
            conversation.finish()
            return
        try:
            request = reflection_pb2.ServerReflectionRequest.FromString(data)
        except DecodeError:
            conversation.finish(grpc.StatusCode.INVALID_ARGUMENT, "a ServerReflectionRequest is required")
            return
        for reply in self._servicer.ServerReflectionInfo(iter([request]), None):
            conversation.send(reply.SerializeToString(), partial(self._listen, conversation))

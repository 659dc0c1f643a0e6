"""All methods of all services that are generated from `proto/`: a new one is fuzzed without another word."""

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from google.protobuf.message_factory import GetMessageClass

import videowindow


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        service: Full name of its service.
        name: Its name.
        request: Class of its requests.
        reply: Class of its replies.
        takes_many: Whether its caller streams.
        gives_many: Whether its server does.
    """

    service: str
    name: str
    request: Any
    reply: Any
    takes_many: bool
    gives_many: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    def stub(self, channel: Any) -> Any:
        """Return what calls it with bytes and returns bytes."""
        kind = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }[self.takes_many, self.gives_many]
        return kind(self.path)


def all_methods() -> list[Method]:
    """Return them in a fixed order."""
    return sorted(_methods(), key=lambda one: one.path)


def _methods() -> Iterator[Method]:
    for module in pkgutil.walk_packages(videowindow.__path__, "videowindow."):
        if not module.name.endswith("_pb2"):
            continue
        for service in import_module(module.name).DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield Method(
                    service.full_name,
                    method.name,
                    GetMessageClass(method.input_type),
                    GetMessageClass(method.output_type),
                    method.client_streaming,
                    method.server_streaming,
                )

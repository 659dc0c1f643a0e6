"""Calls to a server under test, and what their errors say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
import pytest
from google.protobuf import message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2_grpc as pb_grpc


@dataclass(frozen=True, slots=True)
class Client:
    """Stubs over one channel."""

    recommendations: pb_grpc.RecommendationServiceStub
    models: pb_grpc.ModelServiceStub
    health: Any

    @classmethod
    @contextmanager
    def to(cls, port: int) -> Iterator[Self]:
        """Connect to a port of this machine."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield cls(
                pb_grpc.RecommendationServiceStub(channel),
                pb_grpc.ModelServiceStub(channel),
                health_pb2_grpc.HealthStub(channel),
            )

    def status(self, service: str = "") -> str:
        """Return what health says of a service."""
        reply = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call."""

    code: grpc.StatusCode
    message: str
    reason: str
    fields: tuple[str, ...]
    retry_after_s: float | None

    @classmethod
    def of(cls, call: Callable[[], Any]) -> Self:
        """Make a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            call()
        error: Any = caught.value  # also a grpc.Call
        status = rpc_status.from_call(error)
        assert status is not None, error
        (info,) = _details(status, error_details_pb2.ErrorInfo)
        assert info.domain == "videowindow"
        bad = [
            one.field for detail in _details(status, error_details_pb2.BadRequest) for one in detail.field_violations
        ]
        delays = [one.retry_delay.ToTimedelta() for one in _details(status, error_details_pb2.RetryInfo)]
        return cls(error.code(), status.message, info.reason, tuple(bad), delays[0].total_seconds() if delays else None)


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    """Make a call that must fail, maybe without details, and return its code."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    code: grpc.StatusCode = error.code()
    return code


def _details(status: Any, kind: type[message.Message]) -> list[Any]:
    found = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found

"""What each gRPC status code from LightFM means for retries, for the circuit breaker and for the viewer's page."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status


class FallbackReason(StrEnum):
    """Why LightFM did not rank a page; the values are metric tags."""

    DEADLINE_EXCEEDED = auto()
    UNAVAILABLE = auto()
    OVERLOADED = auto()
    ERROR = auto()
    CIRCUIT_OPEN = auto()
    NO_MODEL = auto()
    SHED = auto()
    ANONYMOUS = auto()
    EXPERIMENT = auto()
    EXHAUSTED = auto()


class Verdict(Enum):
    """What a finished call says about the health of the peer."""

    SUCCESS = auto()
    FAILURE = auto()
    NEUTRAL = auto()
    """Nothing: the caller was wrong or gone, or the peer is well and has nothing to say, or no time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """The consequences of a failed attempt."""

    retry: bool
    verdict: Verdict
    reason: FallbackReason

    @property
    def avoid(self) -> bool:
        """Whether another replica should be asked first for a while: this one failed, or has too much to do."""
        return self.verdict is Verdict.FAILURE or self.reason is FallbackReason.OVERLOADED


def _ruling(verdict: Verdict, reason: FallbackReason, *, retry: bool = False) -> Ruling:
    return Ruling(retry=retry, verdict=verdict, reason=reason)


_NEUTRAL: Final = _ruling(Verdict.NEUTRAL, FallbackReason.ERROR)
_FAILURE: Final = _ruling(Verdict.FAILURE, FallbackReason.ERROR)

# AIP-194 retries UNAVAILABLE only. ABORTED is retried as well, for Recommend changes nothing. A deadline is not:
# an attempt gets all the time that is left, so nothing remains after it. RESOURCE_EXHAUSTED is not either:
# asking an overloaded server again makes the overload worse. Nor does it count as a failure: a server that refuses
# what it cannot answer in time is well, and the limiter asks it less. A breaker that opened on refusals would hide the
# end of the overload, and its probes, refused in turn, would keep it open.
RULINGS: Final[Mapping[StatusCode, Ruling]] = MappingProxyType(
    {
        StatusCode.OK: _ruling(Verdict.SUCCESS, FallbackReason.ERROR),
        StatusCode.CANCELLED: _NEUTRAL,
        StatusCode.UNKNOWN: _FAILURE,
        StatusCode.INVALID_ARGUMENT: _NEUTRAL,
        StatusCode.DEADLINE_EXCEEDED: _ruling(Verdict.FAILURE, FallbackReason.DEADLINE_EXCEEDED),
        StatusCode.NOT_FOUND: _NEUTRAL,
        StatusCode.ALREADY_EXISTS: _NEUTRAL,
        StatusCode.PERMISSION_DENIED: _NEUTRAL,
        StatusCode.UNAUTHENTICATED: _NEUTRAL,
        StatusCode.RESOURCE_EXHAUSTED: _ruling(Verdict.NEUTRAL, FallbackReason.OVERLOADED),
        StatusCode.FAILED_PRECONDITION: _NEUTRAL,
        StatusCode.ABORTED: _ruling(Verdict.FAILURE, FallbackReason.ERROR, retry=True),
        StatusCode.OUT_OF_RANGE: _NEUTRAL,
        StatusCode.UNIMPLEMENTED: _FAILURE,
        StatusCode.INTERNAL: _FAILURE,
        StatusCode.UNAVAILABLE: _ruling(Verdict.FAILURE, FallbackReason.UNAVAILABLE, retry=True),
        StatusCode.DATA_LOSS: _FAILURE,
    }
)
"""One ruling for each of the 17 codes; OK stands here for completeness and has no fallback."""

_NO_MODEL: Final = _ruling(Verdict.NEUTRAL, FallbackReason.NO_MODEL)
"""The ruling on UNAVAILABLE with ErrorInfo reason NO_MODEL: asking again at once does not load a model, and neither
must an open breaker hide the moment when one is loaded."""

DEFECT: Final = _FAILURE
"""The ruling on anything but a gRPC status, such as a reply that cannot be read."""


def rule(error: aio.AioRpcError) -> Ruling:
    """Return what follows from a failed attempt."""
    code = error.code()
    if code is StatusCode.UNAVAILABLE and _error_reason(error) == "NO_MODEL":
        return _NO_MODEL
    return RULINGS[code]


def _error_reason(error: aio.AioRpcError) -> str:
    """Return `ErrorInfo.reason` of the error's details, or an empty text."""
    info = error_details_pb2.ErrorInfo()
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it needs
        found = status is not None and any(detail.Unpack(info) for detail in status.details)
    except (ValueError, DecodeError):
        return ""  # details that contradict the status, or that nobody can read
    return info.reason if found else ""

"""Maps each gRPC status code of recsvc to its consequences for retries, for the breaker and for the page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

from bridge.domain.page import FallbackReason

FAIR_ATTEMPT_S: Final = 0.075
"""A shorter attempt that ends by its deadline says nothing about LightFM: the caller left too little time."""

_SLOW: Final = frozenset({FallbackReason.OVERLOADED, FallbackReason.DEADLINE_EXCEEDED})
"""Reasons to ask another replica first, though the attempt may have been no failure."""


class CallOutcome(Enum):
    """Verdicts of a finished call on the health of the peer."""

    SUCCESS = auto()
    FAILURE = auto()
    NEUTRAL = auto()
    """Nothing: the caller was wrong or gone, or the peer is well and has nothing to say, or no time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallPolicy:
    """The consequences of a failed attempt."""

    retry: bool
    verdict: CallOutcome
    reason: FallbackReason

    @property
    def avoid(self) -> bool:
        """Return whether to prefer other replicas for a while: this one failed or is overloaded."""
        return self.verdict is CallOutcome.FAILURE or self.reason in _SLOW

    @property
    def latency_s(self) -> float | None:
        """Return the latency for the limiter; None for a failure that says nothing of load: at once, or too hasty."""
        is_late = self.reason is FallbackReason.DEADLINE_EXCEEDED and self.verdict is CallOutcome.FAILURE
        return math.inf if is_late or self.reason is FallbackReason.OVERLOADED else None


def _ruling(verdict: CallOutcome, reason: FallbackReason, *, retry: bool = False) -> CallPolicy:
    return CallPolicy(retry=retry, verdict=verdict, reason=reason)


_NEUTRAL: Final = _ruling(CallOutcome.NEUTRAL, FallbackReason.ERROR)
_FAILURE: Final = _ruling(CallOutcome.FAILURE, FallbackReason.ERROR)

# AIP-194 retries UNAVAILABLE only. ABORTED is retried as well, for Recommend changes nothing. A deadline is not:
# an attempt gets all the time that is left, so nothing remains after it. RESOURCE_EXHAUSTED is not either:
# asking an overloaded server again makes the overload worse. Nor does it count as a failure: a server that refuses
# what it cannot answer in time is well, and the limiter asks it less. A breaker that opened on refusals would hide the
# end of the overload, and its probes, refused in turn, would keep it open.
RULINGS: Final[Mapping[StatusCode, CallPolicy]] = MappingProxyType(
    {
        StatusCode.OK: _ruling(CallOutcome.SUCCESS, FallbackReason.ERROR),
        StatusCode.CANCELLED: _NEUTRAL,
        StatusCode.UNKNOWN: _FAILURE,
        StatusCode.INVALID_ARGUMENT: _NEUTRAL,
        StatusCode.DEADLINE_EXCEEDED: _ruling(CallOutcome.FAILURE, FallbackReason.DEADLINE_EXCEEDED),
        StatusCode.NOT_FOUND: _NEUTRAL,
        StatusCode.ALREADY_EXISTS: _NEUTRAL,
        StatusCode.PERMISSION_DENIED: _NEUTRAL,
        StatusCode.UNAUTHENTICATED: _NEUTRAL,
        StatusCode.RESOURCE_EXHAUSTED: _ruling(CallOutcome.NEUTRAL, FallbackReason.OVERLOADED),
        StatusCode.FAILED_PRECONDITION: _NEUTRAL,
        StatusCode.ABORTED: _ruling(CallOutcome.FAILURE, FallbackReason.ERROR, retry=True),
        StatusCode.OUT_OF_RANGE: _NEUTRAL,
        StatusCode.UNIMPLEMENTED: _FAILURE,
        StatusCode.INTERNAL: _FAILURE,
        StatusCode.UNAVAILABLE: _ruling(CallOutcome.FAILURE, FallbackReason.UNAVAILABLE, retry=True),
        StatusCode.DATA_LOSS: _FAILURE,
    }
)
"""One ruling for each of the 17 codes; OK stands here for completeness and has no fallback."""

ANSWERED: Final = RULINGS[StatusCode.OK]

_NO_MODEL: Final = _ruling(CallOutcome.NEUTRAL, FallbackReason.NO_MODEL)
"""The ruling on UNAVAILABLE with ErrorInfo reason NO_MODEL: asking again at once does not load a model, and neither
must an open breaker hide the moment when one is loaded."""

_HASTE: Final = _ruling(CallOutcome.NEUTRAL, FallbackReason.DEADLINE_EXCEEDED)
"""The ruling on a deadline that left LightFM too little time."""

DEFECT: Final = _FAILURE
"""The ruling on anything but a gRPC status, such as a reply that cannot be read."""

UNTOLD: Final = _NEUTRAL
"""The ruling on a call of which nothing is known."""


def classify(error: aio.AioRpcError, granted_s: float = math.inf) -> CallPolicy:
    """Return the consequences of an attempt that failed after a deadline of so many seconds."""
    code = error.code()
    if code is StatusCode.DEADLINE_EXCEEDED and granted_s < FAIR_ATTEMPT_S:
        return _HASTE
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

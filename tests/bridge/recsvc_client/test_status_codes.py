"""What each status code leads to."""

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from bridge.domain.page import FallbackReason
from bridge.recsvc_client.status_codes import RULINGS, CallOutcome, classify
from servicekit.grpc.errors import ServiceError, to_status

TABLE = [
    (StatusCode.OK, False, CallOutcome.SUCCESS, FallbackReason.ERROR),
    (StatusCode.CANCELLED, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.UNKNOWN, False, CallOutcome.FAILURE, FallbackReason.ERROR),
    (StatusCode.INVALID_ARGUMENT, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.DEADLINE_EXCEEDED, False, CallOutcome.FAILURE, FallbackReason.DEADLINE_EXCEEDED),
    (StatusCode.NOT_FOUND, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.ALREADY_EXISTS, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.PERMISSION_DENIED, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.RESOURCE_EXHAUSTED, False, CallOutcome.NEUTRAL, FallbackReason.OVERLOADED),
    (StatusCode.FAILED_PRECONDITION, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.ABORTED, True, CallOutcome.FAILURE, FallbackReason.ERROR),
    (StatusCode.OUT_OF_RANGE, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.UNIMPLEMENTED, False, CallOutcome.FAILURE, FallbackReason.ERROR),
    (StatusCode.INTERNAL, False, CallOutcome.FAILURE, FallbackReason.ERROR),
    (StatusCode.UNAVAILABLE, True, CallOutcome.FAILURE, FallbackReason.UNAVAILABLE),
    (StatusCode.DATA_LOSS, False, CallOutcome.FAILURE, FallbackReason.ERROR),
    (StatusCode.UNAUTHENTICATED, False, CallOutcome.NEUTRAL, FallbackReason.ERROR),
]


@pytest.mark.parametrize(("code", "retry", "verdict", "reason"), TABLE)
def test_each_code(code: StatusCode, retry: bool, verdict: CallOutcome, reason: FallbackReason) -> None:  # noqa: FBT001  # a table
    ruling = classify(_error(code))
    assert (ruling.retry, ruling.verdict, ruling.reason) == (retry, verdict, reason)


def test_table_is_complete() -> None:
    """All 17 codes of gRPC have a ruling, and this test has looked at each."""
    assert set(RULINGS) == set(StatusCode) == {row[0] for row in TABLE}
    assert len(TABLE) == 17


def test_calls_go_elsewhere_for_a_while_after_failures_and_refusals() -> None:
    """A replica that refuses at once would look idle."""
    avoided = {code for code, ruling in RULINGS.items() if ruling.avoid}
    failures = {code for code, ruling in RULINGS.items() if ruling.verdict is CallOutcome.FAILURE}
    assert avoided == failures | {StatusCode.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize(("granted_s", "verdict"), [(0.074, CallOutcome.NEUTRAL), (0.075, CallOutcome.FAILURE)])
def test_haste_is_no_failure(granted_s: float, verdict: CallOutcome) -> None:
    """Who waits for too short a time learns nothing of the server, but asks another one the next time."""
    ruling = classify(_error(StatusCode.DEADLINE_EXCEEDED), granted_s)
    assert (ruling.verdict, ruling.reason) == (verdict, FallbackReason.DEADLINE_EXCEEDED)
    assert ruling.avoid


def test_missing_model_is_no_outage() -> None:
    """UNAVAILABLE with reason NO_MODEL is not tried again, and does not open the breaker."""
    ruling = classify(_error(StatusCode.UNAVAILABLE, reason="NO_MODEL"))
    assert (ruling.retry, ruling.verdict, ruling.reason) == (False, CallOutcome.NEUTRAL, FallbackReason.NO_MODEL)


@pytest.mark.parametrize(
    "details",
    [
        b"\xff\xff not a status",
        status_pb2.Status(code=3, message="as scripted").SerializeToString(),
        status_pb2.Status(code=14, message="something else").SerializeToString(),
    ],
)
def test_unreadable_details_count_as_none(details: bytes) -> None:
    error = aio.AioRpcError(
        StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(("grpc-status-details-bin", details)), "as scripted"
    )
    assert classify(error) == RULINGS[StatusCode.UNAVAILABLE]


def _error(code: StatusCode, reason: str = "SCRIPTED") -> aio.AioRpcError:
    trailers = aio.Metadata()
    if code is not StatusCode.OK:
        status = to_status(ServiceError(code, reason, "as scripted"))
        trailers = aio.Metadata(*status.trailing_metadata)
        assert error_details_pb2.ErrorInfo.DESCRIPTOR.full_name.encode() in trailers["grpc-status-details-bin"]
    return aio.AioRpcError(code, aio.Metadata(), trailers, "as scripted")

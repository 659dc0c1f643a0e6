"""What each status code leads to."""

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from bridge.codes import RULINGS, FallbackReason, Verdict, rule
from servicekit.errors import ServiceError, to_status

TABLE = [
    (StatusCode.OK, False, Verdict.SUCCESS, FallbackReason.ERROR),
    (StatusCode.CANCELLED, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.UNKNOWN, False, Verdict.FAILURE, FallbackReason.ERROR),
    (StatusCode.INVALID_ARGUMENT, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.DEADLINE_EXCEEDED, False, Verdict.FAILURE, FallbackReason.DEADLINE_EXCEEDED),
    (StatusCode.NOT_FOUND, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.ALREADY_EXISTS, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.PERMISSION_DENIED, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.RESOURCE_EXHAUSTED, False, Verdict.NEUTRAL, FallbackReason.OVERLOADED),
    (StatusCode.FAILED_PRECONDITION, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.ABORTED, True, Verdict.FAILURE, FallbackReason.ERROR),
    (StatusCode.OUT_OF_RANGE, False, Verdict.NEUTRAL, FallbackReason.ERROR),
    (StatusCode.UNIMPLEMENTED, False, Verdict.FAILURE, FallbackReason.ERROR),
    (StatusCode.INTERNAL, False, Verdict.FAILURE, FallbackReason.ERROR),
    (StatusCode.UNAVAILABLE, True, Verdict.FAILURE, FallbackReason.UNAVAILABLE),
    (StatusCode.DATA_LOSS, False, Verdict.FAILURE, FallbackReason.ERROR),
    (StatusCode.UNAUTHENTICATED, False, Verdict.NEUTRAL, FallbackReason.ERROR),
]


@pytest.mark.parametrize(("code", "retry", "verdict", "reason"), TABLE)
def test_each_code(code: StatusCode, retry: bool, verdict: Verdict, reason: FallbackReason) -> None:  # noqa: FBT001  # a table
    ruling = rule(_error(code))
    assert (ruling.retry, ruling.verdict, ruling.reason) == (retry, verdict, reason)


def test_table_is_complete() -> None:
    """All 17 codes of gRPC have a ruling, and this test has looked at each."""
    assert set(RULINGS) == set(StatusCode) == {row[0] for row in TABLE}
    assert len(TABLE) == 17


def test_calls_go_elsewhere_for_a_while_after_failures_and_refusals() -> None:
    """A replica that refuses at once would look idle."""
    avoided = {code for code, ruling in RULINGS.items() if ruling.avoid}
    failures = {code for code, ruling in RULINGS.items() if ruling.verdict is Verdict.FAILURE}
    assert avoided == failures | {StatusCode.RESOURCE_EXHAUSTED}


def test_missing_model_is_no_outage() -> None:
    """UNAVAILABLE with reason NO_MODEL is not tried again, and does not open the breaker."""
    ruling = rule(_error(StatusCode.UNAVAILABLE, reason="NO_MODEL"))
    assert (ruling.retry, ruling.verdict, ruling.reason) == (False, Verdict.NEUTRAL, FallbackReason.NO_MODEL)


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
    assert rule(error) == RULINGS[StatusCode.UNAVAILABLE]


def _error(code: StatusCode, reason: str = "SCRIPTED") -> aio.AioRpcError:
    trailers = aio.Metadata()
    if code is not StatusCode.OK:
        status = to_status(ServiceError(code, reason, "as scripted"))
        trailers = aio.Metadata(*status.trailing_metadata)
        assert error_details_pb2.ErrorInfo.DESCRIPTOR.full_name.encode() in trailers["grpc-status-details-bin"]
    return aio.AioRpcError(code, aio.Metadata(), trailers, "as scripted")

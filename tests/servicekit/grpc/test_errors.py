import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from servicekit.grpc.errors import ServiceError, Violation, invalid_argument, to_status, unavailable


def headers_size(status: grpc.Status) -> int:
    """Return the most bytes that headers take: a byte that is not plain takes three, base64 a third more."""
    details = sum(len(value) * 4 // 3 for _, value in status.trailing_metadata or ())
    return len(status.details.encode()) * 3 + details


@pytest.mark.parametrize(
    "error",
    [
        ServiceError(grpc.StatusCode.INTERNAL, "X", "я" * 100_000),
        invalid_argument(*(Violation(f"list[{index}]", "is wrong") for index in range(10_000))),
        invalid_argument(*(Violation("я" * 9_000, "я" * 9_000) for _ in range(9))),
    ],
)
def test_no_error_is_too_large_for_its_headers(error: ServiceError) -> None:
    assert headers_size(to_status(error)) < 8192


def test_the_first_bad_fields_are_named() -> None:
    status = to_status(invalid_argument(*(Violation(f"list[{index}]", "is wrong") for index in range(10_000))))

    (_, packed), *_ = status.trailing_metadata or ()
    bad = error_details_pb2.BadRequest()
    parsed = status_pb2.Status.FromString(packed)
    assert parsed.details[1].Unpack(bad)
    assert [one.field for one in bad.field_violations[:3]] == ["list[0]", "list[1]", "list[2]"]


def test_short_texts_are_not_cut() -> None:
    assert to_status(unavailable("X", "é" * 256, retry_after_s=1)).details == "é" * 256

"""Every bad field of a request is reported at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.grpc.errors import ServiceError, Violation
from servicekit.grpc.request_checks import MAX_PAGE_SIZE, Checker
from servicekit.inputs.identifiers import identifier_problem


def test_all_bad_fields_are_reported_together() -> None:
    checker = Checker()
    checker.identifier("", "user_id")
    checker.page_size(-5)
    checker.identifiers(["ok", "", "a\nb"], "exclude_video_ids", most=10)
    with pytest.raises(ServiceError) as refused:
        checker.finish()
    assert refused.value.violations == (
        Violation("user_id", "must not be empty"),
        Violation("page_size", "is -5, must not be negative"),
        Violation("exclude_video_ids[1]", "must not be empty"),
        Violation("exclude_video_ids[2]", "must not contain control characters"),
    )


def test_a_good_request_passes() -> None:
    checker = Checker()
    checker.identifier("u1", "user_id")
    checker.identifiers(["v1"], "exclude_video_ids", most=1)
    checker.finish()


@pytest.mark.parametrize(("asked", "used"), [(0, 20), (1, 1), (500, 500), (501, 500), (2**31 - 1, 500)])
def test_page_sizes_are_brought_into_range(asked: int, used: int) -> None:
    assert Checker().page_size(asked) == used


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_a_page_is_never_empty_or_oversized(asked: int) -> None:
    assert 1 <= Checker().page_size(asked) <= MAX_PAGE_SIZE


def test_a_list_that_is_too_long_is_reported_once() -> None:
    checker = Checker()
    checker.identifiers(["v"] * 11, "video_ids", most=10)
    assert [one.field for one in checker.violations] == ["video_ids"]


@pytest.mark.parametrize("value", ["u1", "ü", "a b", "a\u00a0b", "😀", "x" * 128, "é" * 64])
def test_opaque_identifiers_are_accepted(value: str) -> None:
    assert identifier_problem(value) == ""


@pytest.mark.parametrize("value", ["", "x" * 129, "é" * 65, "a\x00b", "a\x7fb", "\t"])
def test_other_identifiers_are_not(value: str) -> None:
    assert identifier_problem(value) != ""

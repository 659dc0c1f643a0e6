"""JSON from outside is one object of bounded size, and its fields have the types that are asked for."""

import pytest

from servicekit.inputs.json_fields import JsonObject


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"\xff{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        JsonObject(data)


def test_an_object_over_the_bound_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="at most 10"):
        JsonObject(b'{"a": "0123456789"}', max_bytes=10)


@pytest.mark.parametrize(
    "value", ["true", "null", "1.5", "1", '""', '"\\u0000"', '"\\ud800"', '["a"]', f'"{"x" * 129}"']
)
def test_only_strings_are_identifiers(value: str) -> None:
    with pytest.raises(ValueError, match=r"userId|surrogate"):
        JsonObject(f'{{"userId": {value}}}').identifier("userId")


@pytest.mark.parametrize("value", ["true", "null", "1.5", "1.0", '"1"', "-1", "9007199254740993"])
def test_only_integers_within_bounds_are_whole(value: str) -> None:
    with pytest.raises(ValueError, match="watchTime"):
        JsonObject(f'{{"watchTime": {value}}}').whole("watchTime")


@pytest.mark.parametrize("value", ["true", "null", "6", '"4"', "1e400"])
def test_only_finite_numbers_within_bounds_are_numbers(value: str) -> None:
    with pytest.raises(ValueError, match=r"rating"):
        JsonObject(f'{{"rating": {value}}}').number("rating", least=0, most=5)


def test_an_absent_field_is_named() -> None:
    with pytest.raises(ValueError, match="videoId is missing"):
        JsonObject(b"{}").text("videoId")


def test_fields_are_read_by_type() -> None:
    fields = JsonObject('{"userId": "u", "watchTime": 7, "rating": 4, "note": ""}')
    assert (fields.identifier("userId"), fields.whole("watchTime"), fields.number("rating", least=0, most=5)) == (
        "u",
        7,
        4,
    )
    assert fields.text("note") == ""
    assert "other" not in fields

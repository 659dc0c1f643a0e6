"""Identifiers of users, videos and authors."""

import pytest

from servicekit.inputs.identifiers import identifier_problem


@pytest.mark.parametrize("value", ["u1", "é" * 64, "\U0010ffff", "\u202e"])
def test_any_text_will_do(value: str) -> None:
    assert not identifier_problem(value)


@pytest.mark.parametrize("value", ["\ud800", "a\udfff", "\ud800\n"])
def test_half_of_a_surrogate_pair_is_no_text(value: str) -> None:
    """JSON may hold it, such as the subject of a token, and neither protobuf nor Postgres nor Kafka takes it."""
    assert identifier_problem(value)

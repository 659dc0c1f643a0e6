import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.id_map import UNKNOWN, IdMap

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@given(st.lists(IDS, max_size=30), st.lists(IDS, max_size=10))
def test_rows_and_ids_are_inverse(known: list[str], asked: list[str]) -> None:
    """Every known identifier has a row of its own that leads back to it; others have none."""
    ids = IdMap.build(known)

    assert len(ids) == len(set(known))
    assert ids.ids(np.arange(len(ids))) == sorted(set(known), key=str.encode)
    for one in [*known, *asked]:
        row = ids.row(one)
        assert (row != UNKNOWN) == (one in known)
        assert row == UNKNOWN or ids.ids(np.array([row])) == [one]
    assert ids.rows([*known, *asked]).tolist() == [ids.row(one) for one in [*known, *asked]]


@pytest.mark.parametrize("known", [[], ["a"], ["a", "bb"]])
@pytest.mark.parametrize("asked", ["", "b", "a\0", "longer than any of them", "é"])
def test_what_is_not_in_the_map_is_unknown(known: list[str], asked: str) -> None:
    assert IdMap.build(known).row(asked) == UNKNOWN


@pytest.mark.parametrize("bad", ["", "a\0", "\0"])
def test_an_identifier_that_the_array_cannot_hold_is_refused(bad: str) -> None:
    """Fixed-width bytes cannot tell "a" from "a" and a NUL, nor an empty one from none."""
    with pytest.raises(ValueError, match="empty or contain NUL"):
        IdMap.build(["a", bad])

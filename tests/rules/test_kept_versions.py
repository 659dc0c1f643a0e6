"""Whoever changes what makes a kept thing thinks of the constant that tells its version."""

import ast
import copy
import re
from typing import Final

import pytest

from tests.rules.support.kept_versions import (
    COMMAND,
    KEPT,
    PACKAGES,
    ROOT,
    KeptThing,
    current,
    digest,
    noted,
    problems,
    sql_digest,
)

NOT_KEPT: Final = {
    "bridge.feed.page_token._FORMAT": "a token lives for hours, and one of another format begins anew",
    "recsvc.pages.page_token.FORMAT": "a token lives for hours, and one of another format begins anew",
    "bridge.trending.snapshot.FORMAT": "one of another format is fetched anew",
}


def test_makers_are_those_that_were_noted() -> None:
    found = problems(noted(), current())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.constant)
def test_a_changed_maker_names_the_constant_and_the_command(kept: KeptThing) -> None:
    before = current()
    for maker in kept.makers:
        now = copy.deepcopy(before)
        now[kept.constant]["sources"][maker] = "another"
        (problem,) = problems(before, now)
        assert maker in problem
        assert f"raise {kept.constant}" in problem
        assert COMMAND in problem


def test_makers_of_makers_count() -> None:
    """A change of the writer of models is one of the method, and of all that is computed from a model."""
    sources = {constant: kept["sources"] for constant, kept in current().items()}
    of_models = [found for constant, found in sources.items() if constant != "recsvc.live_state.keys.FORMAT"]
    assert all("modelstore.artefact" in found for found in of_models)
    assert "retrain.training.warp_kernel" in sources["retrain.recipe.METHOD_VERSION"]
    assert "retrain/data/sql/events.sql" in sources["retrain.recipe.METHOD_VERSION"]
    assert "recsvc.ranking.inverted_file" in sources["recsvc.ranking.approximate.FORMAT"]
    assert "recsvc.ranking.exact" in sources["recsvc.precompute.shortlists.FORMAT"]


def test_a_raised_constant_is_noted_too() -> None:
    before = current()
    now = copy.deepcopy(before)
    now["modelstore.artefact.FORMAT"]["version"] += 1
    (problem,) = problems(before, now)
    assert COMMAND in problem


WRITTEN: Final = 'def f(a: int) -> int:\n    """Say what."""\n    return a + 1\n'


@pytest.mark.parametrize(
    "same",
    [
        'def f(a: int) -> int:\n    """Say it otherwise."""\n    # why\n    return a + 1\n',
        '"""A module."""\n\n\ndef f(\n    a: int,\n) -> int:\n    return (a + 1)\n',
    ],
)
def test_what_python_does_not_run_does_not_count(same: str) -> None:
    assert digest(same) == digest(WRITTEN)


@pytest.mark.parametrize("other", ["a + 2", "a - 1", "1 + a", "a + 1.0"])
def test_what_it_runs_counts(other: str) -> None:
    assert digest(WRITTEN.replace("a + 1", other)) != digest(WRITTEN)


def test_comments_of_statements_do_not_count() -> None:
    assert sql_digest("-- Why.\nSELECT '--x'\n  FROM t") == sql_digest("SELECT '--x' FROM t -- other\n")
    assert sql_digest("SELECT '--x'") != sql_digest("SELECT '--y'")


def test_every_version_speaks_for_something() -> None:
    """A constant that tells a format is of a kept thing, or is here with the reason why it is not."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                name = ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else ""
                if re.fullmatch("_?(FORMAT|METHOD_VERSION)", name):
                    found.add(f"{module}.{name}")
    assert found == {one.constant for one in KEPT} | NOT_KEPT.keys()


def test_no_program_tells_its_code_by_a_folder() -> None:
    """That counts comments, and misses what other folders hold."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert '"*.py"' not in path.read_text(encoding="utf-8"), path

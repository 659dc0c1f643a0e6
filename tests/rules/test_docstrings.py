"""Summaries of docstrings say what a thing does: each rule names a habit that hides it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("benchmarks", "bridge", "deploy", "docs", "modelstore", "recsvc", "retrain", "servicekit")
MIN_WORDS: Final = 3
CLAUSE: Final = re.compile(r"(As much|How|That|What|When|Where|Whether|Which|Who|Whom|Whose|Why)\b")
"""A clause names a situation; the thing has a name, and does something."""
NO_VERB: Final = re.compile(r"(A|All|An|As|At|By|For|From|In|It|Its|Many|Of|On|One|Some|That|The|Those|To|With)\b")
PRONOUN: Final = re.compile(
    r"(Add|Answer|Build|Copy|Do|Drop|End|Give|Have|Insert|Keep|Let|Load|Make|Move|Note|Put|Read|Remove|Return|Run|Save"
    r"|Send|Set|Start|Stop|Take|Write|Yield) "
    r"(both|it|that|them|these|this|those)\b(?= *[,;.:]| (as|back|in|is|to|when)\b)"
)
"""Nothing stands before the summary that a pronoun could mean."""
VAGUE: Final = re.compile(r"\b(of what\b|that there (is|are|was)|there being|[Tt]ake (in|note)\b|what (be)?came of)")
BARE_POINT: Final = re.compile(r"(?<![\w.\])}`/*…-])\.\d")
"""A number starts with a digit: 0.5, as SI writes it."""
NOT_YET: Final = (
    "bridge/maintenance/erasure.py",
    "bridge/trending/",
)
"""Places that the rule does not hold for yet; the list only shrinks."""


@dataclass(frozen=True, slots=True)
class Summary:
    """First paragraph of a docstring, with its place."""

    place: str
    owner: ast.AST
    text: str

    @property
    def is_function(self) -> bool:
        """Whether it stands in a function that is called, as a property is not."""
        return isinstance(self.owner, ast.FunctionDef | ast.AsyncFunctionDef) and not any(
            ast.unparse(one).rpartition(".")[2] in {"property", "cached_property"} for one in self.owner.decorator_list
        )


def summaries(package: str) -> Iterator[Summary]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield from summaries_of(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))


def summaries_of(name: str, tree: ast.Module) -> Iterator[Summary]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if text is not None:
            yield Summary(f"{name}:{node.body[0].lineno}", node, " ".join(text.split("\n\n")[0].split()))


def problems(summary: Summary) -> Iterator[str]:
    text = summary.text
    if len(text.split()) < MIN_WORDS:
        yield f"has fewer than {MIN_WORDS} words"
    if CLAUSE.match(text):
        yield "begins with a clause: name the thing, or say what it does"
    if summary.is_function and NO_VERB.match(text):
        yield "of a function begins without a verb"
    if PRONOUN.match(text):
        yield "begins with a pronoun that means nothing yet: write the noun"
    if VAGUE.search(text):
        yield "puts a clause where a noun stands: write the noun"
    if BARE_POINT.search(text):
        yield "holds a number without a leading zero"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_summary_says_what_the_thing_does(package: str) -> None:
    found = [
        f"{one.place}: {problem}: {one.text}"
        for one in summaries(package)
        for problem in problems(one)
        if not one.place.startswith(NOT_YET)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        '"""What a page is made of."""',
        'class A:\n    """Who asked to be forgotten."""',
        'def f():\n    """Do it."""',
        'def f():\n    """Return it as it is stored."""',
        'def f():\n    """The folder of the models."""',
        'def f():\n    """Return the sum of what was lost."""',
        'def f():\n    """Wait for .5 seconds at most."""',
    ],
)
def test_a_bad_summary_is_found(source: str) -> None:
    assert [problem for one in summaries_of("", ast.parse(source)) for problem in problems(one)]


@pytest.mark.parametrize(
    "source",
    [
        '"""Makes pages of videos."""',
        'class A:\n    """The erased users of one store."""',
        'class A:\n    @property\n    def f(self):\n        """The folder of the models."""',
        'def f():\n    """Write `model.1.npy` within 0.5 s."""',
    ],
)
def test_a_good_summary_is_let_through(source: str) -> None:
    assert not [problem for one in summaries_of("", ast.parse(source)) for problem in problems(one)]


@pytest.mark.parametrize("place", NOT_YET)
def test_a_place_without_the_rule_needs_that(place: str) -> None:
    package = place.partition("/")[0]
    assert any(one.place.startswith(place) for one in summaries(package) if list(problems(one))), "take it from NOT_YET"


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=str)
def test_a_number_has_a_leading_zero(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{place}: {line}" for place, line in enumerate(lines, 1) if BARE_POINT.search(line)] == []

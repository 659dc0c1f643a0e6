"""`python -m tests.rules.support.kept_versions --write`: note of which source each version of a kept thing is.

What a program keeps, and trusts when it comes back to it, tells by a constant in which format or by which method it
was made. Whoever changes the makers must think of that constant: so their digests stand in a file beside this one, and
a test fails when they differ. A digest is of what Python runs: comments, docstrings and formatting do not count.
"""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[3]
PACKAGES: Final = ("bridge", "modelstore", "recsvc", "retrain", "servicekit")
NOTED: Final = Path(__file__).with_suffix(".json")
COMMAND: Final = "python -m tests.rules.support.kept_versions --write"
SQL_TOKENS: Final = re.compile(r"('(?:[^']|'')*')|--[^\n]*|\s+")
Versions = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptThing:
    """What a program keeps.

    Attributes:
        name: Of the thing.
        constant: Tells its version, `package.module.NAME`.
        makers: Modules that make it, with all modules of this project that these import.
        passed_over: Packages and modules among these that decide nothing of it, with all that only they import.
        sql: Folder of statements; those that the modules name make it.
    """

    name: str
    constant: str
    makers: tuple[str, ...]
    passed_over: tuple[str, ...] = ("servicekit",)
    sql: str | None = None


KEPT: Final = (
    KeptThing(name="a published model", constant="modelstore.artefact.FORMAT", makers=("modelstore.artefact",)),
    KeptThing(
        name="the method of training, by which models, training states and fits of killed runs are known again",
        constant="retrain.recipe.METHOD_VERSION",
        makers=(
            "retrain.data.prepare",
            "retrain.pipeline.stages",
            "retrain.pipeline.train",
            "servicekit.user_fingerprint",
        ),
        passed_over=(
            "modelstore.registry",
            "modelstore.signature",
            "retrain.errors",
            "retrain.gates.smoke_test",
            "retrain.numba_cache",
            "retrain.pipeline.best_effort",
            "retrain.pipeline.observer",
            "retrain.pipeline.progress_bar",
            "retrain.report",
            "retrain.run_log",
            "retrain.snowflake_account",
            "servicekit",
        ),
        sql="retrain/data/sql",
    ),
    KeptThing(
        name="a checkpoint of training",
        constant="retrain.training.checkpoint.FORMAT",
        makers=("retrain.training.checkpoint",),
        passed_over=("retrain.data", "retrain.errors", "retrain.numba_cache", "servicekit"),
    ),
    KeptThing(
        name="arrays that recsvc computes from a model",
        constant="recsvc.model.derived_arrays.FORMAT",
        makers=("recsvc.model.derived_arrays",),
    ),
    KeptThing(
        name="recsvc's index of a model's videos",
        constant="recsvc.ranking.approximate.FORMAT",
        makers=("recsvc.ranking.approximate",),
    ),
    KeptThing(
        name="shortlists that recsvc computes ahead",
        constant="recsvc.precompute.shortlists.FORMAT",
        makers=("recsvc.precompute.__main__", "recsvc.precompute.shortlists"),
    ),
    KeptThing(
        name="recsvc's store of what happened since training",
        constant="recsvc.live_state.keys.FORMAT",
        makers=("recsvc.live_state.batch", "servicekit.user_fingerprint"),
    ),
)


def current() -> Versions:
    """Return each constant's value and the digests of what it speaks for, as the source is now."""
    return {one.constant: {"version": _value(one.constant), "sources": dict(sorted(_sources(one)))} for one in KEPT}


def noted() -> Versions:
    """Return the same as it was noted."""
    versions: Versions = json.loads(NOTED.read_text(encoding="utf-8"))
    return versions


def problems(before: Versions, now: Versions) -> list[str]:
    """Return what to do about each kept thing whose makers are not those that were noted."""
    found = []
    for one in KEPT:
        was, is_now = before.get(one.constant, {"version": None, "sources": {}}), now[one.constant]
        if was == is_now:
            continue
        sources = was["sources"].keys() | is_now["sources"].keys()
        changed = sorted(name for name in sources if was["sources"].get(name) != is_now["sources"].get(name))
        raised = is_now["version"] != was["version"]
        advice = (
            f"{one.constant} is {is_now['version']} instead of {was['version']}"
            if raised
            else f"if what is kept is another now, or means something else, raise {one.constant}"
        )
        found.append(f"{one.name}: {', '.join(changed) or 'nothing'} changed; {advice}; then run `{COMMAND}`")
    return found


def digest(source: str) -> str:
    """Return a digest of what Python runs of a source."""
    return _short(repr(_form(ast.parse(source))))


def sql_digest(statement: str) -> str:
    """Return a digest of a statement without its comments and line breaks."""
    return _short(SQL_TOKENS.sub(lambda token: token[1] or " ", statement).strip())


def _sources(kept: KeptThing) -> Iterator[tuple[str, str]]:
    waiting, seen = list(kept.makers), set(kept.makers)
    while waiting:
        module = waiting.pop()
        yield module, digest(_text(module))
        for name in _imported(module) - seen:
            if not any(name == passed or name.startswith(f"{passed}.") for passed in kept.passed_over):
                seen.add(name)
                waiting.append(name)
    if kept.sql:
        named = frozenset().union(*map(_strings, seen))
        for path in (ROOT / kept.sql).glob("*.sql"):
            if path.stem in named:
                yield str(path.relative_to(ROOT)), sql_digest(path.read_text(encoding="utf-8"))


@cache
def _strings(module: str) -> frozenset[str]:
    """Return the texts in a module, the names of statements among them."""
    nodes = (node for node in ast.walk(ast.parse(_text(module))) if isinstance(node, ast.Constant))
    return frozenset(node.value for node in nodes if isinstance(node.value, str))


@cache
def _imported(module: str) -> frozenset[str]:
    """Return the modules of this project that one imports, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(_text(module))):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if _path(inner) else node.module)
    return frozenset(name for name in found if name.partition(".")[0] in PACKAGES and _path(name))


def _path(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


@cache
def _text(module: str) -> str:
    path = _path(module)
    if path is None:
        raise ValueError(f"{module} is no module of this project: mend KEPT")
    return path.read_text(encoding="utf-8")


def _form(node: object) -> object:
    """Return a syntax tree as plain values, the same in all versions of Python: without docstrings, and all empty."""
    if isinstance(node, ast.AST):
        fields = ((name, _form(value)) for name, value in ast.iter_fields(node) if name != "kind")
        return (type(node).__name__, [one for one in fields if one[1] not in (None, [])])
    if isinstance(node, list):
        return [_form(one) for one in node if not _is_docstring(one)]
    return node if isinstance(node, str) or node is None else repr(node)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _value(constant: str) -> object:
    module, _, name = constant.rpartition(".")
    for node in ast.parse(_text(module)).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name and node.value:
            return ast.literal_eval(node.value)
    raise ValueError(f"{constant} is not there: mend KEPT")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> None:
    """Say what differs, and with --write note the source of now."""
    now = current()
    for problem in problems(noted() if NOTED.exists() else {}, now):
        print(problem)  # noqa: T201  # the program's output
    if "--write" in sys.argv[1:]:
        NOTED.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What this code must not do again: each rule names a mistake that was made, and finds it in the source.

To add a rule, write what finds it and add it to RULES. A place that may do it stands in `code_exceptions`, as
`package/folder/file.py:function`, with the reason.
An exception that no source needs any more fails, so that the lists only shrink.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.rules.support import code_exceptions

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("benchmarks", "bridge", "deploy", "modelstore", "recsvc", "retrain", "servicekit")
Finder = Callable[[ast.AST], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One mistake.

    Attributes:
        name: Short.
        reason: What it led to, and what to write instead.
        finds: Whether a node of the syntax tree is the mistake.
        allowed: Places that may, and why.
    """

    name: str
    reason: str
    finds: Finder
    allowed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands."""

    key: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} ({self.key})"


@cache
def nodes() -> tuple[tuple[Place, ast.AST], ...]:
    """Return all nodes of all sources, each with its place."""
    return tuple(
        found
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for found in _walk(ast.parse(path.read_text(encoding="utf-8")), (), path.relative_to(ROOT))
    )


def _walk(node: ast.AST, scope: tuple[str, ...], path: Path) -> Iterator[tuple[Place, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (*scope, child.name)
        yield Place(f"{path.as_posix()}:{'.'.join(inner) or '<module>'}", path, getattr(child, "lineno", 0)), child
        yield from _walk(child, inner, path)


@cache
def called(node: ast.AST) -> str:
    """Return the dotted name of what a node calls, empty for all that is no call of a name."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def is_fixed(node: ast.AST) -> bool:
    """Return whether a text is written in the source: a literal, a CONSTANT, or an f-string of these."""
    if isinstance(node, ast.JoinedStr):
        return all(map(is_fixed, node.values))
    if isinstance(node, ast.FormattedValue):
        return is_fixed(node.value)
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == name), None)


COMPUTED: Final = frozenset(
    "abs count_nonzero einsum eps final max mean median min percentile sqrt square std sum var".split()  # noqa: SIM905
)
"""What calls of these names return was computed here."""


def float_of_a_text(node: ast.AST) -> bool:
    if called(node) != "float" or not isinstance(node, ast.Call) or not node.args:
        return False
    (value,) = node.args
    while isinstance(value, ast.BinOp | ast.UnaryOp | ast.Attribute):
        value = (
            value.left
            if isinstance(value, ast.BinOp)
            else value.operand
            if isinstance(value, ast.UnaryOp)
            else value.value
        )
    if isinstance(value, ast.Constant):
        return False
    return not (isinstance(value, ast.Call) and called(value).rpartition(".")[2] in COMPUTED)


def json_of_any_size(node: ast.AST) -> bool:
    return called(node) in {"json.loads", "json.load", "json.JSONDecoder", "orjson.loads"}


def thread(node: ast.AST) -> bool:
    return called(node) in {"threading.Thread", "Thread"}


@cache
def kept_running() -> frozenset[str]:
    """Return the names of functions and methods that the bridge's runner is given."""
    calls = (node for _, node in nodes() if isinstance(node, ast.Call) and called(node) == "background")
    return frozenset(ast.unparse(one).rpartition(".")[2] for call in calls for one in call.args[1:])


def endless_loop(node: ast.AST) -> bool:
    """Look for it in a whole function, as the function's name says whether the runner runs it."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name in kept_running():
        return False
    loops = (one for one in _own(node) if isinstance(one, ast.While))
    return any(
        isinstance(loop.test, ast.Constant) and loop.test.value and not any(map(_leaves, loop.body)) for loop in loops
    )


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """Return the nodes of a function without those of functions in it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _own(child)


def _leaves(node: ast.AST) -> bool:
    if isinstance(node, ast.Return | ast.Break | ast.Raise):
        return True
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ExceptHandler):
        return False  # what an error leads to is no end
    return any(map(_leaves, ast.iter_child_nodes(node)))


def pattern_of_data(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or called(node).rpartition(".")[2] not in {"glob", "rglob", "iglob"}:
        return False
    return bool(node.args) and not is_fixed(node.args[0])


CERTIFICATE: Final = re.compile(r"(^|[._])(ca|cert|certs|certificate|authority|key|pem)(_file|_path)?$", re.IGNORECASE)


def certificate_read_once(node: ast.AST) -> bool:
    name = called(node)
    if re.match(r"ssl\.|grpc\.(aio\.)?(dynamic_)?ssl_", name):
        return True
    what, _, method = name.rpartition(".")
    return method in {"read_bytes", "read_text", "open"} and bool(CERTIFICATE.search(what))


def variable_beside_settings(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return ast.unparse(node.value) == "os.environ"
    return called(node) in {"os.environ.get", "os.environ.pop", "os.getenv"}


def argument_without_bounds(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not called(node).endswith(".add_argument"):
        return False
    kind = keyword(node, "type")
    return isinstance(kind, ast.Name) and kind.id in {"int", "float"}


RULES: Final = (
    Rule(
        name="float of a text",
        reason="float takes nan, inf and 5e-324, which poison sums; use servicekit.inputs.numbers",
        finds=float_of_a_text,
        allowed=code_exceptions.FLOATS,
    ),
    Rule(
        name="JSON of any size",
        reason="json.loads raises RecursionError and leaves types to chance; use servicekit.inputs.json_fields",
        finds=json_of_any_size,
        allowed=code_exceptions.JSON,
    ),
    Rule(
        name="thread",
        reason="an error ends a bare thread without a word; what runs all the time goes through a shared runner",
        finds=thread,
        allowed=code_exceptions.THREADS,
    ),
    Rule(
        name="endless loop",
        reason="an error ends it for good; give its one turn to a shared runner, which logs errors and goes on",
        finds=endless_loop,
        allowed=code_exceptions.LOOPS,
    ),
    Rule(
        name="pattern made of data",
        reason="a name with [ * or ? in it finds other files; compare names, or write the pattern out",
        finds=pattern_of_data,
        allowed=code_exceptions.PATTERNS,
    ),
    Rule(
        name="certificate read once",
        reason="certificates are renewed while programs run; read them through servicekit.credentials.tls_files",
        finds=certificate_read_once,
        allowed=code_exceptions.CERTIFICATES,
    ),
    Rule(
        name="variable beside the settings",
        reason="what Settings does not declare has no bounds, no description and no known name",
        finds=variable_beside_settings,
        allowed=code_exceptions.VARIABLES,
    ),
    Rule(
        name="argument without bounds",
        reason="int and float take any number; use servicekit.configuration.arguments",
        finds=argument_without_bounds,
        allowed={},
    ),
)


SNIPPETS: Final = {
    "float of a text": ["float(text)", "float(fields['score'])", "float(os.environ.get('A', '1'))"],
    "JSON of any size": ["json.loads(data)", "json.load(file)"],
    "thread": ["threading.Thread(target=run)"],
    "endless loop": [
        "def f():\n    while True:\n        try:\n            g()\n        except OSError:\n            return"
    ],
    "pattern made of data": ["folder.glob(f'{name}-*')", "folder.rglob(name)", "glob.glob(path)"],
    "certificate read once": ["ssl.create_default_context()", "self.key.read_bytes()", "tls_ca_file.open('rb')"],
    "variable beside the settings": ["os.environ['A']", "os.getenv('A')", "os.environ.get('A')"],
    "argument without bounds": ["p.add_argument('--n', type=float)", "p.add_argument('--n', type=int, default=1)"],
}
HARMLESS: Final = {
    "float of a text": ["float('inf')", "float(values.mean())", "float(np.sqrt(a @ b) / 2)", "read_number(text)"],
    "JSON of any size": ["json.dumps(data)"],
    "thread": ["threading.Event()"],
    "endless loop": [
        "def f():\n    while True:\n        if g():\n            return",
        "def f():\n    while g():\n        pass",
    ],
    "pattern made of data": ["folder.glob('*.py')", "folder.glob(f'{PREFIX}*')"],
    "certificate read once": ["manifest.read_bytes()", "(folder / MANIFEST).read_bytes()"],
    "variable beside the settings": ["os.environ['A'] = '1'", "os.environ | {'A': '1'}"],
    "argument without bounds": ["p.add_argument('--n', type=whole(1, 9))", "p.add_argument('--n', type=Path)"],
}


def test_every_rule_is_shown() -> None:
    assert {rule.name for rule in RULES} == SNIPPETS.keys() == HARMLESS.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_finds_what_it_forbids_and_nothing_else(rule: Rule) -> None:
    for snippet in SNIPPETS[rule.name]:
        assert any(map(rule.finds, ast.walk(ast.parse(snippet)))), snippet
    for snippet in HARMLESS[rule.name]:
        assert not any(map(rule.finds, ast.walk(ast.parse(snippet)))), snippet


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_nothing_breaks_the_rule(rule: Rule) -> None:
    broken = [place for place, node in nodes() if rule.finds(node) and place.key not in rule.allowed]
    assert not broken, f"{rule.reason}:\n" + "\n".join(map(str, broken))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_exception_is_needed(rule: Rule) -> None:
    used = {place.key for place, node in nodes() if rule.finds(node)}
    assert not rule.allowed.keys() - used, "nothing there breaks the rule any more: take it from `allowed`"
    assert all(rule.allowed.values()), "each has a reason"

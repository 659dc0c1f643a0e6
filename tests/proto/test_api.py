"""The API definition keeps its style and its compatibility, and the stubs are those of the definition."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.process

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.prefix) / "bin"
UNCOMMENTED: Final = """\
syntax = "proto3";

package videowindow.feed.v1;

message Silent {
  string name = 1;
}
"""


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(BIN / command[0]), *command[1:]], cwd=cwd, capture_output=True, text=True, check=False)


def generate(target: Path) -> None:
    """Run what `make codegen` runs, into another folder."""
    protos = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("proto/**/*.proto"))]
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = {"PATH": f"{BIN}:/usr/bin:/bin"}
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *outputs, *protos]
    subprocess.run(command, cwd=ROOT, env=plugins, check=True, capture_output=True)
    for folder in (target / "videowindow").glob("**/"):
        (folder / "__init__.py").touch()


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*.py*") if path.suffix in (".py", ".pyi"))
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def test_the_definition_passes_lint() -> None:
    """Lint includes COMMENTS: every service, method, message, field and enum value has one."""
    done = run("buf", "lint")
    assert (done.returncode, done.stdout) == (0, "")


def test_lint_asks_for_comments(tmp_path: Path) -> None:
    """The check above can fail: an uncommented message and field are reported."""
    folder = tmp_path / "proto" / "videowindow" / "feed" / "v1"
    folder.mkdir(parents=True)
    (folder / "silent.proto").write_text(UNCOMMENTED, encoding="utf-8")
    (tmp_path / "buf.yaml").write_text((ROOT / "buf.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    done = run("buf", "lint", cwd=tmp_path)
    assert 'Message "Silent" should have a non-empty comment' in done.stdout
    assert 'Field "name" should have a non-empty comment' in done.stdout


def test_the_definition_is_formatted() -> None:
    done = run("buf", "format", "--diff", "--exit-code")
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_breaks_against_the_committed_definition() -> None:
    committed = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    if committed.returncode:
        pytest.skip("not a git checkout")
    done = run("buf", "breaking", "--against", ".git#ref=HEAD")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_stubs_are_those_of_the_definition(tmp_path: Path) -> None:
    """`make codegen` would change nothing."""
    generate(tmp_path)
    assert contents(ROOT / "videowindow") == contents(tmp_path / "videowindow")

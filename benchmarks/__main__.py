"""Runs benchmarks by name and prints their tables.

A benchmark is a module below this package with a docstring and `run() -> dict[title, rows]`.
"""

import argparse
import ast
import importlib
import os
import sys
import time
from pathlib import Path

import benchmarks
from benchmarks import machine, report

RESULTS = Path(".run/bench")


def names() -> dict[str, str]:
    """Return the benchmarks' modules by name, such as `feed_faults` for `benchmarks.feed.faults`; none is imported."""
    found = {}
    for folder in benchmarks.__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
                parts = path.relative_to(folder).with_suffix("").parts
                found["_".join(parts)] = f"benchmarks.{'.'.join(parts)}"
    return found


def first_line(module: str) -> str:
    """Return what a module's docstring begins with."""
    source = Path(benchmarks.__path__[0]).parent.joinpath(*module.split(".")).with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main() -> int:
    """Run the benchmarks that the command line names, all of them by default."""
    known = names()
    listing = "\n".join(f"  {name:24} {first_line(module)}" for name, module in known.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="which to run; all by default")
    wanted = parser.parse_args().name or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the Makefile, for whoever starts this without make
    print(machine.describe())
    for name in wanted:
        print(f"\n## {name}: {first_line(known[name])}\n", flush=True)
        begin = time.monotonic()
        tables = importlib.import_module(known[name]).run()
        for title, rows in tables.items():
            print(report.table(title, rows), flush=True)
        path = report.save(RESULTS, name, machine.describe(), tables)
        print(f"{time.monotonic() - begin:.0f} s, kept in {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

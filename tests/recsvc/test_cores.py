import os
from pathlib import Path

import pytest

from recsvc.cores import usable_cores

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", ALLOWED),
        ("50000 100000", 1),
        ("100000 100000", 1),
        (f"{ALLOWED * 100_000 - 1} 100000", ALLOWED),
        ("6400000 100000", ALLOWED),
        ("nonsense", ALLOWED),
    ],
)
def test_a_containers_limit_counts(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n", encoding="ascii")

    assert usable_cores(tmp_path / "cpu.max") == cores


def test_without_a_limit_all_allowed_cores_are_used(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "missing") == ALLOWED

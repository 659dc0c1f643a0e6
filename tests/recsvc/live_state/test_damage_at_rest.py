"""A start notices what happened to the store's file while nobody ran."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from recsvc.live_state.verification import Verdict, check
from tests.recsvc.support.left_stores import is_found, left
from tests.recsvc.support.live_stores import PAGE_BYTES, overwrite

pytestmark = pytest.mark.process


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_page(file: Path) -> None:
    os.truncate(file, file.stat().st_size - PAGE_BYTES)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def remove(file: Path) -> None:
    file.unlink()


def half_page(file: Path) -> None:
    """A page in the middle is half what it was before."""
    overwrite(file, file.stat().st_size // 2 // PAGE_BYTES * PAGE_BYTES + PAGE_BYTES // 2, b"\0" * (PAGE_BYTES // 2))


def zero_pages(file: Path) -> None:
    """What a file system may leave of pages that were not on disk."""
    overwrite(file, 2 * PAGE_BYTES, b"\0" * (file.stat().st_size - 2 * PAGE_BYTES))


def one_value(file: Path) -> None:
    """The walk over the pages cannot see it."""
    at = file.read_bytes().rindex(b"video-60000\0")
    overwrite(file, at, b"w")


def noise(file: Path) -> None:
    overwrite(file, 0, random.Random(5).randbytes(file.stat().st_size))


@pytest.mark.parametrize("hurt", [cut, cut_page, empty, remove, half_page, zero_pages, one_value, noise])
@pytest.mark.parametrize("is_clean", [True, False])
def test_a_store_that_was_damaged_at_rest_begins_anew(
    tmp_path: Path, hurt: Callable[[Path], None], *, is_clean: bool
) -> None:
    hurt(left(tmp_path, is_clean=is_clean))

    assert not is_found(tmp_path)


def test_random_damage_is_found_or_hurts_nothing(tmp_path: Path) -> None:
    """Bytes of free pages and of pages' gaps may be anything."""
    file = left(tmp_path, is_clean=False)
    sound = file.read_bytes()
    chance = random.Random(3)
    for _ in range(12):
        hurt = bytearray(sound)
        for _ in range(3):
            hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
        file.write_bytes(hurt)
        verdict, why = check(file.parent)
        assert verdict is Verdict.DAMAGED or not why

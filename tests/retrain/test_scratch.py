"""Where a run keeps its files, if nobody says where."""

import stat
import tempfile
from pathlib import Path

import pytest

from retrain.scratch import private_folder


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_the_folder_is_its_accounts_own() -> None:
    folder = private_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder() == folder


def test_what_somebody_else_put_in_its_place_is_refused(tmp_path: Path) -> None:
    folder = private_folder()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="set RETRAIN_WORK_DIR"):
        private_folder()
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="set RETRAIN_WORK_DIR"):
        private_folder()

"""A file of keys."""

from pathlib import Path

import pytest

from tests.bridge.support.user_tokens import RSA_KEY, pem_of


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem_of(RSA_KEY))
    return path

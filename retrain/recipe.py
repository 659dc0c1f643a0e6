"""What a model is made of: a digest of its input, its settings and the code, so that a run knows its own work again."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modelstore.artefact import digest
from retrain.data.input_files import InputFiles

DIGITS: Final = 8
"""Hexadecimal digits of a digest in a version's name."""

_CODE: Final = Path(__file__).parent


def recipe_digest(source: InputFiles, parameters: Mapping[str, object]) -> str:
    """Return the digest of the input files, the parameters and the code of this package."""
    return _digest({"input": [digest(path) for path in source.files], "parameters": dict(parameters), "code": _code()})


def method_digest(parameters: Mapping[str, object]) -> str:
    """Return the digest of the parameters and the code of this package, whatever the input."""
    return _digest({"parameters": dict(parameters), "code": _code()})


def _code() -> dict[str, str]:
    paths = sorted([*_CODE.glob("*.py"), *_CODE.glob("sql/*.sql")])
    return {path.name: digest(path) for path in paths}


def _digest(recipe: Mapping[str, object]) -> str:
    text = json.dumps(recipe, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

"""Digests the input, settings and method of a model, so that a run recognises work done before."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from modelstore.artefact import FORMAT, digest
from retrain.data.input_files import InputFiles

DIGITS: Final = 8
"""Hexadecimal digits of a digest in a version's name."""
METHOD_VERSION: Final = 1
"""Of the way from exports to a model: raise it when the code makes another model of the same input and settings.

Runs then train anew what they had trained before, and the next night makes a full fit: no fit goes on from a training
state of another method.
"""
LIBRARIES: Final = ("duckdb", "numba", "numpy", "rectools-lightfm")
"""Those that a model's numbers depend on."""


def recipe_digest(source: InputFiles, parameters: Mapping[str, object]) -> str:
    """Return the digest of the input files, the parameters, the method, its libraries, and the model's format."""
    return _digest(
        {
            "input": [digest(path) for path in source.files],
            "parameters": dict(parameters),
            "method": METHOD_VERSION,
            "format": FORMAT,
            "libraries": {name: version(name) for name in LIBRARIES},
        }
    )


def method_digest(parameters: Mapping[str, object]) -> str:
    """Return the digest of the parameters and the method, whatever the input."""
    return _digest({"parameters": dict(parameters), "method": METHOD_VERSION})


def _digest(recipe: Mapping[str, object]) -> str:
    text = json.dumps(recipe, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

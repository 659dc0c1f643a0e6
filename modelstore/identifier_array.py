"""Checks a model's identifiers by the rule of the API: callers must be able to name every video of a page."""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from servicekit.inputs.identifiers import MAX_ID_BYTES

TOGETHER: Final = 1 << 15
"""Identifiers that are looked at in one step, of bounded memory."""
_NON_ASCII: Final = 0x80
_SPACE, _DELETE = 0x20, 0x7F
_FURTHER_CONTROLS: Final = re.compile("[\x80-\x9f]")


def identifiers_problem(ids: "NDArray[np.bytes_]") -> str:
    """Return the fault of identifiers in UTF-8, (n,) in ascending order, or an empty text."""
    for start in range(0, len(ids), TOGETHER):
        part = np.ascontiguousarray(ids[start : start + TOGETHER])
        if start + len(part) < len(ids) and not ids[start + len(part)] > part[-1]:
            return "is not sorted"
        if problem := _problem(part):
            return problem
    return ""


def _problem(ids: "NDArray[np.bytes_]") -> str:
    lengths = np.strings.str_len(ids)
    if not bool(np.all(ids[1:] > ids[:-1])):
        return "is not sorted"
    if lengths.min(initial=MAX_ID_BYTES) == 0:
        return "holds an empty identifier"
    if lengths.max(initial=0) > MAX_ID_BYTES:
        return f"holds an identifier of more than {MAX_ID_BYTES} bytes"
    return _problem_of_letters(ids, lengths)


def _problem_of_letters(ids: "NDArray[np.bytes_]", lengths: NDArray[np.int64]) -> str:
    width = ids.dtype.itemsize
    letters = ids.view(np.uint8).reshape(len(ids), width)
    is_control = (letters < _SPACE) | (letters == _DELETE)
    is_control &= np.arange(width) < lengths[:, None]
    text = ""
    if letters.max(initial=0) >= _NON_ASCII:
        try:
            text = b"\n".join(ids.tolist()).decode()  # no sequence of bytes goes on beyond a line's end
        except UnicodeDecodeError:
            return "holds an identifier that is not UTF-8"
    if bool(is_control.any()) or _FURTHER_CONTROLS.search(text):
        return "holds an identifier with control characters"
    return ""

"""Reads JSON from outside: one object of bounded size, whose fields have the types that readers ask for.

`json.loads` raises RecursionError, which is no ValueError, for deep nesting; takes NaN, and numbers of any length; and
leaves `true`, `null` and 1.5 for callers to turn into the identifiers "True", "None" and "1.5".
"""

import json
from typing import Any, Final, NoReturn, Self

from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.numbers import finite

MAX_BYTES: Final = 1 << 20
"""Of one message or record. Files that the program itself writes may be larger, and their readers say so."""
MAX_WHOLE: Final = 2**53
"""What is above it no JSON parser is bound to keep."""


class JsonObject:
    """The fields of a JSON object, each read by its type; ValueError names a field that is absent or of another type.

    Args:
        data: UTF-8 JSON; ValueError when it is anything but one object of at most `max_bytes`.
        max_bytes: The bound.
        unique: Whether an object that has a name twice is refused, as in files that people write; else the last counts.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes | str, *, max_bytes: int = MAX_BYTES, unique: bool = False) -> None:
        if len(data) > max_bytes:
            raise ValueError(f"the JSON has {len(data)} bytes, at most {max_bytes} are read")
        try:
            text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
            fields: Any = (_UNIQUE if unique else _PLAIN).decode(text)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        if not isinstance(fields, dict):
            raise ValueError("the JSON is no object")  # noqa: TRY004  # likewise
        self._fields: dict[str, Any] = fields

    @classmethod
    def of(cls, fields: Any) -> Self:
        """Return the object that is a value of another one; ValueError when it is none."""
        if not isinstance(fields, dict):
            raise ValueError("it is no object")  # noqa: TRY004  # as all that is wrong with the JSON
        found = cls.__new__(cls)
        found._fields = fields
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def text(self, name: str) -> str:
        """Return a string that UTF-8 can hold."""
        value = self._get(name)
        if not isinstance(value, str):
            raise ValueError(f"{name} is no string")  # noqa: TRY004  # as all that is wrong with the JSON
        value.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair
        return value

    def identifier(self, name: str) -> str:
        """Return a string that may stand for a user, a video or an author."""
        value = self.text(name)
        if problem := identifier_problem(value):
            raise ValueError(f"{name} {problem}")
        return value

    def whole(self, name: str, *, least: int = 0, most: int = MAX_WHOLE) -> int:
        """Return an integer from `least` to `most`; neither `true` nor 1.0 is one."""
        value = self._get(name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} is no integer from {least} to {most}")
        return value

    def number(self, name: str, *, least: float, most: float) -> float:
        """Return a finite number from `least` to `most`."""
        try:
            return finite(self._get(name), least=least, most=most)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def items(self, name: str) -> list[Any]:
        """Return the items of an array, of whatever types: who reads them checks each."""
        value = self._get(name)
        if not isinstance(value, list):
            raise ValueError(f"{name} is no array")  # noqa: TRY004  # likewise
        return value

    def texts(self) -> dict[str, str]:
        """Return all fields, each of which is a string."""
        return {name: self.text(name) for name in self._fields}

    def names(self) -> list[str]:
        """Return the fields' names."""
        return [*self._fields]

    def value(self, name: str) -> Any:
        """Return a value as parsed."""
        return self._get(name)

    def _get(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise ValueError(f"{name} is missing") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} stands there twice")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


# `json.loads` makes one of them each time, which takes longer than to read a message.
_PLAIN: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_UNIQUE: Final = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_each_once)

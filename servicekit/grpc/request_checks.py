"""Checks fields of a request for both services, and reports every bad one, not only the first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from servicekit.grpc.errors import Violation, invalid_argument
from servicekit.inputs.identifiers import identifier_problem

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 500


@dataclass(slots=True)
class Checker:
    """Collects the bad fields of one request."""

    violations: list[Violation] = field(default_factory=list)

    def require(self, condition: bool, path: str, description: str) -> None:  # noqa: FBT001  # reads as an assertion
        """Report the field unless the condition holds."""
        if not condition:
            self.violations.append(Violation(path, description))

    def report(self, path: str, description: str) -> None:
        """Report the field."""
        self.violations.append(Violation(path, description))

    def identifier(self, value: str, path: str) -> None:
        """Report an identifier that is empty, longer than 128 bytes of UTF-8, or holds control characters."""
        problem = identifier_problem(value)
        if problem:
            self.violations.append(Violation(path, problem))

    def identifiers(self, values: Sequence[str], path: str, *, most: int) -> None:
        """Report a list of identifiers that is too long, or each bad one in it."""
        self.require(len(values) <= most, path, f"has {len(values)} entries, at most {most} are allowed")
        for index, value in enumerate(values[:most]):
            self.identifier(value, f"{path}[{index}]")

    def page_size(self, value: int) -> int:
        """Return the page size to use: 0 means 20, above 500 means 500; a negative one is reported."""
        if value < 0:
            self.violations.append(Violation("page_size", f"is {value}, must not be negative"))
        return min(value, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE

    def finish(self) -> None:
        """Raise INVALID_ARGUMENT when anything was reported."""
        if self.violations:
            raise invalid_argument(*self.violations)

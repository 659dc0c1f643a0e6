"""Follows files that are replaced while the program runs: certificates, keys and passwords.

A program that reads such a file once works until the day on which the old content stops being good. Here one thread
looks at all of them: what changed is read whole, checked, and handed to whoever uses it; what cannot be used leaves the
last good content in place. No event loop reads a file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import structlog

from servicekit.credentials.certificate_life import Life, lives, report
from servicekit.process.periodic_thread import PeriodicThread
from servicekit.telemetry.metrics import Metrics

T = TypeVar("T")

LOOK_S: Final = 2.0
REPORT_S: Final = 60.0
"""Seconds between two reports of how long certificates live."""

Contents: TypeAlias = Mapping[str, bytes]
"""What files hold, by the name of the setting that names each."""

logger = structlog.get_logger(__name__)


class Renewed(Generic[T]):
    """The latest value made from some files that belong together.

    Args:
        files: By the names of their settings.
        parse: Makes a value of what they hold; ValueError for what cannot be used, such as a key that is another
            certificate's because only one of them has been replaced yet.
        certificates: Those that hold certificates, whose end is reported ahead.

    Raises:
        OSError: A file cannot be read at the start.
        ValueError: It cannot be used.
    """

    def __init__(
        self, files: Mapping[str, Path], parse: Callable[[Contents], T], *, certificates: tuple[str, ...] = ()
    ) -> None:
        self._files = dict(files)
        self._parse = parse
        self._certificates = certificates
        self._contents = self._read()
        self.current = parse(self._contents)
        """The value of the last good content."""
        self._told: list[Callable[[T], None]] = []
        self._problem = ""

    def subscribe(self, told: Callable[[T], None]) -> None:
        """Call a function with each new value from now on, in the thread that watches the files."""
        self._told.append(told)

    def look(self) -> bool:
        """Read changed files; return whether a usable value came of them."""
        try:
            contents = self._read()
            if contents == self._contents:
                self._note("")
                return False
            value = self._parse(contents)
        except (OSError, ValueError) as error:
            self._note(str(error))
            return False
        self._problem = ""
        self._contents, self.current = contents, value
        logger.info("renewal.taken", settings=[*self._files])
        for told in self._told:
            try:
                told(value)
            except Exception:  # the others are to be told, too
                logger.exception("renewal.defect")
        return True

    def lives(self) -> dict[str, Life]:
        """Return the validity of the value's certificates."""
        return lives({name: self._contents[name] for name in self._certificates if name in self._contents})

    def _read(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self._files.items()}

    def _note(self, problem: str) -> None:
        """Log a problem once."""
        if problem and problem != self._problem:
            logger.warning("renewal.not_taken", settings=[*self._files], problem=problem)
        self._problem = problem


class Renewals:
    """Watches renewed files, in a thread of its own, until the block ends.

    Args:
        metrics: Told how long certificates live.
        look_s: Seconds between two looks.
    """

    def __init__(self, metrics: Metrics, *, look_s: float = LOOK_S) -> None:
        self._metrics = metrics
        self._look_s = look_s
        self._looks_to_report: dict[Renewed[Any], int] = {}
        self._thread = PeriodicThread(
            "renewals",
            self._look,
            interval_s=look_s,
            waits_first=False,
            stop_within_s=look_s,  # a disk that hangs does not hold up the end
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()

    def add(self, renewed: Renewed[T]) -> Renewed[T]:
        """Watch these files, too."""
        self._looks_to_report[renewed] = 0
        return renewed

    def _look(self) -> None:
        for one, left in list(self._looks_to_report.items()):
            try:
                changed = one.look()
                if changed or not left:
                    report(one.lives(), self._metrics)
            except Exception:  # the thread is for all files
                logger.exception("renewal.defect")
            self._looks_to_report[one] = left - 1 if left else round(REPORT_S / self._look_s)


def text_of(name: str) -> Callable[[Contents], str]:
    """Return a function that reads a secret from the file of one setting, as settings do."""

    def parse(contents: Contents) -> str:
        try:
            text = contents[name].decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{name} is not UTF-8") from None
        if not text:
            raise ValueError(f"{name} is empty")
        return text

    return parse

"""A name server that says nothing until it is told to, and a process that has no other."""

import socket
import subprocess
import threading
from pathlib import Path
from typing import Final, Self

import pytest

ADDRESS: Final = "127.9.9.9"
PORT: Final = 53
"""The only one that `resolv.conf` knows."""
_ADDRESS_RECORD: Final = b"\0\1"


class NameServer:
    """Knows every name as 127.0.0.1; until `answer` is called, questions stay open."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((ADDRESS, PORT))
        except OSError as error:
            self._socket.close()
            pytest.skip(f"no name server may run here: {error}")
        self._open: list[tuple[bytes, tuple[str, int]]] = []
        self._answers = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._configuration = folder / "resolv.conf"
        self._configuration.write_text(f"nameserver {ADDRESS}\noptions timeout:30 attempts:5\n", encoding="ascii")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", (ADDRESS, PORT))
        self._thread.join(5)
        self._socket.close()

    @property
    def asked(self) -> bool:
        """Whether a question waits for its answer."""
        return bool(self._open)

    def answer(self) -> None:
        """Answer what waits, and everything from now on at once."""
        with self._lock:
            self._answers = True
            for question, asker in self._open:
                self._reply(question, asker)
            self._open.clear()

    def command(self, program: list[str]) -> list[str]:
        """Return what runs a program that asks this name server; skips the test where that is not allowed."""
        inside = f'mount --bind "{self._configuration}" /etc/resolv.conf && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", inside, "sh"]
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
            pytest.skip("a process may not have a name server of its own here")
        return [*command, *program]

    def _run(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            with self._lock:
                if self._answers:
                    self._reply(question, asker)
                else:
                    self._open.append((question, asker))

    def _reply(self, question: bytes, asker: tuple[str, int]) -> None:
        end = question.index(b"\0", 12) + 5  # after the name, its type and class
        known = question[end - 4 : end - 2] == _ADDRESS_RECORD
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if known else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if known else b""
        self._socket.sendto(head + question[12:end] + record, asker)

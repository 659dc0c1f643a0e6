"""A DNS server for the system's own processes, which can stop answering."""

import os
import secrets
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import Final

ZONE: Final = "chaos.test"
MODEL_SERVER: Final = f"recsvc.{ZONE}"
AGENT: Final = f"agent.{ZONE}"
A: Final = 1
HEADER_BYTES: Final = 12
_MOUNT: Final = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


class NameServer:
    """Says that every name is this machine; while it hangs, it says nothing, and resolvers wait for their time-out.

    Processes that are started by its prefix ask it and nobody else: they see a resolv.conf of their own.
    """

    def __init__(self, folder: Path) -> None:
        self.is_hung = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        address = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}.{1 + secrets.randbelow(250)}"
        self._socket.bind((address, 53))
        self._resolv = folder / "resolv.conf"
        self._resolv.write_text(f"nameserver {address}\noptions timeout:5 attempts:2\n", encoding="ascii")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @classmethod
    def missing(cls) -> str:
        """Return why there can be none here, or nothing."""
        if os.geteuid() != 0 or not shutil.which("unshare"):
            return "only root may give processes another resolv.conf"
        tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
        return "no mount namespace can be made here" if tried.returncode else ""

    def prefix(self) -> list[str]:
        """Return the command that runs another one with this as its only name server."""
        return ["unshare", "--mount", "sh", "-c", _MOUNT, str(self._resolv)]

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                question, sender = self._socket.recvfrom(512)
                if not self.is_hung:
                    self._socket.sendto(_answer(question), sender)
            except OSError:
                return  # it was closed
            except (IndexError, struct.error):
                continue  # that was no question


def _answer(question: bytes) -> bytes:
    end = HEADER_BYTES
    while question[end]:
        end += question[end] + 1
    end += 5
    (kind,) = struct.unpack_from(">H", question, end - 4)
    found = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 0, 4) + bytes([127, 0, 0, 1]) if kind == A else b""
    return question[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(found), 0, 0) + question[HEADER_BYTES:end] + found

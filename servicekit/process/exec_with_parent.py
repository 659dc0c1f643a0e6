"""Replaces itself by another program, which gets a signal when its parent process dies.

Run as `python -IS exec_with_parent.py <parent pid> <signal number> <program> [argument …]`, so that it costs
no more than starting a bare interpreter. The process keeps its id.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then become the program."""
    parent, number, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(1)  # it died before the kernel could be asked
    os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()

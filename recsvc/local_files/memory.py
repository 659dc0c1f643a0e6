"""Gives memory back to the system that was freed and that the allocator still holds."""

import ctypes


def return_free_memory() -> None:
    """Give freed pages back to the system, as glibc does by itself only at the end of its heap; elsewhere nothing."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)

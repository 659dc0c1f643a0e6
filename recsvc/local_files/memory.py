"""Returns freed memory that the allocator still holds to the system."""

import ctypes


def return_free_memory() -> None:
    """Return freed pages to the system, which glibc does by itself only at its heap's end; elsewhere do nothing."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(0)

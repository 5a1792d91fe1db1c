"""The C library's heap, told what a worker does with it."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, of malloc.h."""

KEPT_BYTES = 32 << 20
"""Freed memory that stays with the process, and the size from which a block is the kernel's: the most glibc takes."""


def keep_pages() -> bool:
    """Keep freed pages for the next batch. Every batch frees a few megabytes and the next one asks for them again: by
    default glibc gives them back to the kernel in between, and a tenth of a worker's time went into page faults.

    Returns:
        Whether this process has such a heap: glibc's, on Linux.
    """
    if sys.platform != "linux":
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    return bool(set_option(_MMAP_THRESHOLD, KEPT_BYTES)) and bool(set_option(_TRIM_THRESHOLD, KEPT_BYTES))

"""Freed memory kept by the process, so that large tensors do not fault their pages in again at every step."""

import ctypes
import sys

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to take large blocks from its heap and to give none back to the system.

    By default every tensor above 32 MB is mapped anew, page by page, and unmapped when freed; passes over a large
    vocabulary then spend about a third of their time in the kernel. The process keeps its peak memory. Commands
    do this for their own process; importing the library changes nothing.

    Returns:
        Whether it was done: False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1

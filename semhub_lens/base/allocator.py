"""Keeps freed memory in the process, so that large tensors do not cause new page faults at every step."""

import ctypes
import sys

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Make glibc's allocator take large blocks from its heap and return none to the system.

    By default, every tensor above 32 MB is mapped page by page and unmapped when freed. Passes over a large vocabulary
    then spend about a third of their time in the kernel. With this setting, the process keeps its peak memory. Commands
    do this for their own process; importing the library changes nothing.

    Returns:
        Whether it worked: False if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1

"""Freed memory: kept in the process, so that large tensors cause no page faults again, or returned to the system."""

import ctypes
import sys
from typing import Any

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


def keep_freed_memory() -> bool:
    """Make glibc's allocator take large blocks from its heap and return none to the system.

    By default, every tensor above 32 MB is mapped page by page and unmapped when freed. Passes over a large vocabulary
    then spend about a third of their time in the kernel. With this setting, the process keeps its peak memory. Commands
    do this for their own process; importing the library changes nothing.

    Returns:
        Whether it worked: False if the C library is not glibc.
    """
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1


def return_freed_memory() -> bool:
    """Return the freed memory to the system once; later freed memory is kept or returned as before.

    A process that keeps freed memory otherwise holds the sum of what its steps left between the blocks in use.

    Returns:
        Whether any was returned: False if the C library is not glibc.
    """
    malloc_trim = _of_glibc("malloc_trim")
    return malloc_trim is not None and malloc_trim(0) == 1


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None

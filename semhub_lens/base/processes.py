"""The processes of one launch (`accelerate launch`, `torchrun`), which share a run; without a launch there is one.

Every process makes the same calls. Work in parts is distributed over the processes. At the end they wait for each
other: then all parts are done, or an error in one process is raised in all.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import alone_in

Part = TypeVar("Part")
LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for the others, which may have hours of work left. If one dies, the launcher ends them."""
AGAIN = "Run the same command again: it resumes from the finished parts."


def place() -> tuple[int, int]:
    """The number of this process and the number of processes; in a launch, the first call waits for the others.

    Example:
        >>> from semhub_lens.base.processes import place
        >>> place()
        (0, 1)
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1 or "LOCAL_RANK" not in os.environ:
        return 0, 1
    from accelerate import PartialState  # takes a second to import, for launches alone
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=LONGEST_WAIT)
    return state.process_index, state.num_processes


def is_main() -> bool:
    """Whether this is the main process, which prints and writes shared files."""
    return place()[0] == 0


def share(parts: Iterable[Part]) -> Iterator[Part]:
    """This process's parts: of k processes, number i takes parts i, i + k, ..."""
    index, count = place()
    return islice(parts, index, None, count)


@contextmanager
def in_step(work: str) -> Iterator[list[Any]]:
    """Leave the context together with the other processes; afterwards, the list has what all of them put into it.

    Args:
        work: a description of the work; it must be the same in all processes.

    Raises:
        SemhubError: another process failed, ended, or is doing different work.
    """
    told: list[Any] = []
    if place()[1] == 1:
        yield told
        return
    error = None
    try:
        yield told
    except Exception as raised:
        if hasattr(raised, "met"):  # in a context inside: the others raise it as well
            raise
        error = raised
    told[:] = _met(work, error, told)


@contextmanager
def together_in(folder: Path, work: str) -> Iterator[None]:
    """Like `alone_in`: the main process locks the folder for all processes of the launch.

    Raises:
        SemhubError: as `alone_in` and `in_step`, in every process.
    """
    with ExitStack() as held:
        with in_step(f"{work} in {folder}"):
            if is_main():
                held.enter_context(alone_in(folder))
        yield


def _met(work: str, error: Exception | None, told: list[Any]) -> list[Any]:
    """Wait for the others, and return what all of them sent, in order."""
    from accelerate.utils import gather_object

    index, count = place()
    failed = error
    if error is not None and not isinstance(error, SemhubError):
        failed = SemhubError(f"Process {index} of 0 to {count - 1} failed: {type(error).__name__}: {error}")
    try:
        all_met = gather_object([(work, failed, told)])
    except Exception as lost:  # of what carries the messages, which may be any
        raise _known(SemhubError(f"Another process of this launch ended before its work was finished. {AGAIN}")) from (
            error or lost
        )
    for known in (error, *(failed for _, failed, _ in all_met)):
        if known is not None:
            raise _known(known)
    if len({work for work, *_ in all_met}) > 1:
        doing = "; ".join(f"{number}: {work}" for number, (work, *_) in enumerate(all_met))
        raise _known(
            SemhubError(
                f"The processes of this launch are doing different work ({doing}). All of them must make the same "
                "calls, with the same settings, model, data and versions."
            )
        )
    return [one for *_, told in all_met for one in told]


def _known(error: Exception) -> Exception:
    """The error, marked as one that every process raises."""
    error.__dict__["met"] = True
    return error

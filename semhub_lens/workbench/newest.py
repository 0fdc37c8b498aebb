"""A thread that answers the newest question: an overtaken one is stopped, and its answer dropped."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
Stop = Callable[[], None]
"""Raises `Overtaken` where a newer question waits."""


class Overtaken(Exception):
    """A newer question waits."""


class Newest(Generic[Q, A]):
    """Answers questions one at a time, always the newest.

    Args:
        work: yields the parts of an answer; it calls `stop` as often as it can be left.
        tell: gets every part, in the thread, unless the question was overtaken.
        failed: gets what `work` raised.
    """

    def __init__(
        self, work: Callable[[Q, Stop], Iterator[A]], tell: Callable[[A], None], failed: Callable[[Exception], None]
    ) -> None:
        self._work, self._tell, self._failed = work, tell, failed
        self._changed = threading.Condition()
        self._waiting: list[Q] = []
        self._number = 0
        self._busy = False

    def ask(self, question: Q) -> None:
        """Answer this one next; what runs stops at its next step."""
        with self._changed:
            self._waiting[:] = [question]
            self._number += 1
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._run, daemon=True, name="semhub explorer").start()

    def drop(self) -> None:
        """Leave what runs and what waits unanswered."""
        with self._changed:
            self._waiting.clear()
            self._number += 1

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the newest question is answered; False after `timeout` seconds without."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._busy = False
                    self._changed.notify_all()
                    return
                question, number = self._waiting.pop(), self._number
            self._answer(question, number)

    def _answer(self, question: Q, number: int) -> None:
        def stop() -> None:
            if self._number != number:
                raise Overtaken

        try:
            for part in self._work(question, stop):
                stop()
                self._tell(part)
        except Overtaken:
            return
        except Exception as error:  # a thread has nobody else to tell
            if self._number == number:
                self._failed(error)

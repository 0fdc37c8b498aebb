"""A thread that answers the newest request: an older one is stopped, and its answer dropped."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
Stop = Callable[[], None]
"""Raises `Overtaken` if there is a newer request."""


class Overtaken(Exception):
    """There is a newer request."""


class Newest(Generic[Q, A]):
    """Answers requests one at a time, always the newest.

    Args:
        work: yields the parts of an answer; it calls `stop` wherever it can stop.
        tell: gets every part, in the thread, unless the request was overtaken.
        failed: gets the error of `work`.
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
        """Answer this request next; the current one stops at its next step."""
        with self._changed:
            self._waiting[:] = [question]
            self._number += 1
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._run, daemon=True, name="semhub explorer").start()

    def drop(self) -> None:
        """Drop the current request and any waiting one."""
        with self._changed:
            self._waiting.clear()
            self._number += 1

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the newest request is answered; False after `timeout` seconds."""
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
                with self._changed:  # a request that comes now waits until all of this part is told
                    stop()
                    self._tell(part)
        except Overtaken:
            return
        except Exception as error:  # a thread has nobody else to tell
            with self._changed:
                if self._number == number:
                    self._failed(error)

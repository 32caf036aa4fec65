"""Work on several processes, whose results come in the order of the work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
AHEAD = 4  # pieces of work a process that are handed out before they are needed


def _begin(parent: Connection) -> None:
    """In each process: leave Ctrl-C to the parent, and end when it hangs up or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent.poll(None)  # nothing is ever sent: this is the end of it
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Workers:
    """``count`` processes; with 1, this one. Used by ``with``.

    Started afresh, not forked: a fork of a process with threads may hang.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        # The processes are the parallelism; each reads this when it first encodes.
        self._before = os.environ.get("TOKENIZERS_PARALLELISM")
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        if self._count > 1:
            context = multiprocessing.get_context("spawn")
            listening, self._line = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(self._count, context, _begin, (listening,))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool:
            if kind is not None:  # what they are at will be done again
                self._line.close()
            self._pool.shutdown(cancel_futures=True)
            self._line.close()
        if self._before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = self._before

    def in_order(
        self, function: Callable[..., T], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[T]:
        """``function`` of each of ``arguments``, in their order.

        Raises what it raises; ChildProcessError if a process was killed.
        """
        if self._pool is None:
            for given in arguments:
                yield function(*given)
            return
        waiting: deque[Future[T]] = deque()
        try:
            for given in arguments:
                waiting.append(self._pool.submit(function, *given))
                if len(waiting) > AHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            problem = "a process was killed, perhaps for memory; the same command goes on from here"
            raise ChildProcessError(problem) from None
        finally:
            for one in waiting:
                one.cancel()

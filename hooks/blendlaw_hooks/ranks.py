"""What the ranks of a job do together. Every function is called by all of them, in one order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def rank() -> int:
    """This process's rank; 0 where nothing is distributed."""
    return torch.distributed.get_rank() if _distributed() else 0


def on_one(writer: int, action: Callable[[], T]) -> T:
    """The result of ``action``, run on rank ``writer`` alone; what it raises, all ranks raise."""
    outcome: list[Any] = [None, None]
    if rank() == writer:
        try:
            outcome = [action(), None]
        except Exception as error:
            outcome = [None, _plain(error)]
    if _distributed():
        torch.distributed.broadcast_object_list(outcome, src=writer)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def on_each(action: Callable[[], object]) -> None:
    """Run ``action`` on every rank; if it raises on some, all ranks raise what the first did."""
    mine: Exception | None = None
    try:
        action()
    except Exception as error:
        mine = _plain(error)
    found: list[Exception | None] = [mine]
    if _distributed():
        found = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(found, mine)
    for raised in found:
        if raised is not None:
            raise raised


def _distributed() -> bool:
    return bool(torch.distributed.is_available() and torch.distributed.is_initialized())


def _plain(error: Exception) -> Exception:
    """An error that survives the way to other ranks."""
    if isinstance(error, OSError | ValueError):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")

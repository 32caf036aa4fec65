"""Arguments and writers, for all to get."""

from __future__ import annotations

from typing import Any

_HELD: dict[str, Any] = {}


def set_args(args: Any) -> None:
    _HELD["args"] = args


def get_args() -> Any:
    return _HELD["args"]


def get_tensorboard_writer() -> Any:
    args = get_args()
    if args.tensorboard_dir is None:
        return None
    if "writer" not in _HELD:
        from torch.utils.tensorboard import SummaryWriter

        _HELD["writer"] = SummaryWriter(args.tensorboard_dir)
    return _HELD["writer"]


def get_wandb_writer() -> Any:
    return None

"""Megatron-Bridge with blendlaw in it: two lines of a recipe change.

    from blendlaw_hooks.bridge import pretrain  # was: from megatron.bridge.training.pretrain

    config = …  # a ConfigContainer with a GPTDatasetConfig that names no data
    pretrain(config, forward_step, plan="plan.toml", folder="run")

Bound of Megatron-Bridge, by name (the same in 0.3.1 and main of August 2026), beside what
adapter.py binds of megatron.core: ``GPTDatasetConfig``, ``DatasetProvider`` and
``get_dataset_provider``; the events ``on_train_end``, ``on_eval_end`` and ``on_test_end`` of a
``Callback``; that ``pretrain`` calls its module's ``setup`` with ``state``, and ``train`` its
module's ``save_checkpoint_and_time``; what ``state`` and its ``cfg`` hold as named below.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from megatron.bridge.data.utils import get_dataset_provider
from megatron.bridge.training.callbacks import Callback, CallbackManager, normalize_callbacks
from megatron.bridge.training.config import DataloaderConfig, DatasetProvider
from megatron.bridge.training.state import GlobalState

from blendlaw.plan import Plan, read_plan
from blendlaw_hooks.adapter import Adapter, Job, around
from blendlaw_hooks.refusals import refuse_bridge
from blendlaw_hooks.staged_blend import per_split
from blendlaw_hooks.trackers import Writers


def pretrain(
    config: Any,
    forward_step_func: Callable[..., Any],
    callbacks: list[Callback] | CallbackManager | None = None,
    *,
    plan: str | Path,
    folder: str | Path,
) -> None:
    """Bridge's ``pretrain``, its blend that of ``plan``, the losses by language in ``folder``.

    ``config`` is Bridge's ConfigContainer, whose ``dataset`` is a GPTDatasetConfig without data
    of its own. The same call again goes on where a checkpoint is. Raises InputError, on every
    rank, where the plan, the folder or the config are not fit to train with.
    """
    read = read_plan(plan)
    refuse_bridge(config, read)
    adapter = Bridge(read, Path(folder))
    manager = normalize_callbacks(callbacks) or CallbackManager()
    manager.add(StagedCallback(adapter))
    own = config.dataset
    config.dataset = StagedDataset.of(own, adapter)
    try:
        with adapter.bound() as train:
            train(config, adapter.forward_step(forward_step_func), callbacks=manager)
    finally:
        config.dataset = own
    adapter.end()


class Bridge(Adapter):
    """What one call of Bridge's ``pretrain`` is given."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        super().__init__(plan, folder)
        self._state: Any = None  # Bridge's GlobalState

    def job(self) -> Job:
        config, done = self._state.cfg, self._state.train_state
        return Job(
            step=done.step,
            consumed=done.consumed_train_samples,
            global_batch=config.train.global_batch_size,
            micro_batch=config.train.micro_batch_size,
            workers=config.dataset.num_workers,
            log_interval=config.logger.log_interval,
            tracker=Writers(self._state.tensorboard_logger, self._state.wandb_logger),
        )

    def progress(self) -> tuple[int, int, int]:
        done = self._state.train_state
        return done.step, done.consumed_train_samples, self._state.cfg.train.micro_batch_size

    def forward_step(self, forward_step: Callable[..., Any]) -> Callable[..., Any]:
        """Bridge puts its state first where the function asks for it, by type or name."""

        @functools.wraps(forward_step)
        def counted(*args: Any, **kwargs: Any) -> Any:
            first = 1 if isinstance(args[0], GlobalState) else 0
            step = functools.partial(forward_step, *args[:first])
            return super(Bridge, self).forward_step(step)(*args[first:], **kwargs)

        return counted

    @contextmanager
    def bound(self) -> Iterator[Callable[..., None]]:
        """Bridge's ``pretrain``, which meanwhile says what its callbacks are not told."""
        module = import_module("megatron.bridge.training.pretrain")
        train = import_module("megatron.bridge.training.train")
        with ExitStack() as undo:
            undo.callback(around(module, "setup", before=self._setting_up))
            undo.callback(around(train, "save_checkpoint_and_time", before=self._saving))
            if hasattr(module, "save_checkpoint"):  # of 0.3, once training has ended
                undo.callback(around(module, "save_checkpoint", before=self._saving))
            yield module.pretrain

    def _setting_up(self, arguments: dict[str, Any]) -> None:
        self.end()  # an earlier attempt, where Bridge restarts within the process
        self._state = arguments["state"]

    def _saving(self, arguments: dict[str, Any]) -> None:
        self.saving(arguments["state"].train_state.step)


@dataclass(kw_only=True)
class StagedDataset(DatasetProvider):
    """Bridge's dataset provider, whose blends are those of the plan; all else is ``config``'s.

    Training samples are taken in order, as by any loader of type single, and so are those of
    evaluations, which Bridge shuffles where the config is a GPTDatasetConfig itself.
    """

    config: Any

    @classmethod
    def of(cls, config: Any, adapter: Adapter) -> StagedDataset:
        """The provider in place of the GPTDatasetConfig ``config``."""
        plan = adapter.plan.mixture.values()
        blends: list[Any] = []
        for sources in ("sources", "valid_sources", "test_sources"):
            prefixes = [source.prefix for each in plan for source in getattr(each, sources)]
            blends.append((prefixes, None) if prefixes else None)
        loading = {field.name: getattr(config, field.name) for field in fields(DataloaderConfig)}
        made = cls(**loading | {"dataloader_type": "single"}, config=per_split(config, blends))
        made._adapter = adapter
        return made

    def __getattr__(self, name: str) -> Any:
        """Bridge asks its dataset config for more than a provider has."""
        if name.startswith("_") or "config" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.config, name)

    def build_datasets(self, context: Any) -> tuple[Any, Any, Any]:
        """Training, validation and test sets of the plan; None for a set without sources."""
        self.config.tokenizer = context.tokenizer
        self.config.finalize()
        provide = self._adapter.provider(get_dataset_provider(self.config))
        sizes = [context.train_samples, context.valid_samples, context.test_samples]
        train, valid, test = provide(sizes, self.config)
        return train, valid, test


class StagedCallback(Callback):
    """Tells a run of evaluations and of the end of training; Bridge calls it on every rank."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def on_eval_end(self, context: Any) -> None:
        self._adapter.validated(context.state.train_state.step, "valid")

    def on_test_end(self, context: Any) -> None:
        self._adapter.validated(context.state.train_state.step, "test")

    def on_train_end(self, context: Any) -> None:
        if self._adapter.run is not None:
            self._adapter.run.complete()

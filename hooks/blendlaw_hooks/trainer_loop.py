"""The trainer's run: everything built in its order, then steps, validations and checkpoints.

What is bound of Megatron is named in trainer_setup.py, trainer_data.py, trainer_model.py and
trainer_checkpoint.py.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from blendlaw.plan import Plan
from blendlaw.run_folder import say
from blendlaw.trainer_plan import shape
from blendlaw_hooks import ranks, trainer_checkpoint
from blendlaw_hooks.staged_run import PREFETCH_FACTOR, StagedRun
from blendlaw_hooks.trainer_data import (
    batch_on_this_rank,
    build_data,
    check_sources,
    first_of_tensor_group,
    microbatches,
    validation_size,
)
from blendlaw_hooks.trainer_model import build_model
from blendlaw_hooks.trainer_progress import Bar
from blendlaw_hooks.trainer_setup import Settings, about, arrange, vocabulary


class Training:
    """A run of the trainer in this process: built, then ``run``."""

    def __init__(
        self, plan: Plan, folder: Path, device: torch.device, cache: str | Path | None
    ) -> None:
        self.plan, self.folder, self.device = plan, folder, device
        trainer = plan.trainer
        self.batch = trainer.global_batch
        self.steps = plan.steps
        self.vocabulary = vocabulary(plan)
        self.shape = shape(trainer, plan.run.params, self.vocabulary)
        data_ranks = arrange(plan)
        at_once = trainer.micro_batch * data_ranks
        self.microbatches = self.batch // at_once
        settings = Settings(folder, plan, self.shape)
        self.step = ranks.on_one(0, lambda: self._found(settings))
        self.staged = StagedRun(
            plan,
            folder,
            samples=plan.samples,
            consumed=self.step * self.batch,
            batch=self.batch,
            prefetched=trainer.workers * PREFETCH_FACTOR * at_once,
            log_interval=trainer.log_interval,
            device=device,
            writer=0,
            cache=str(Path(cache or folder / "cache") / "index"),
            counting=first_of_tensor_group(),
        )
        ranks.on_one(0, lambda: self._prepare(settings))
        self._say(about(plan, self.shape, self.steps, data_ranks))
        self.data = build_data(
            plan,
            self.staged,
            self.vocabulary,
            Path(cache or folder / "cache") / "data",
            own=cache is None,
        )
        self.model = build_model(plan, self.shape, device, self.steps)
        self._batches = self._microbatches(
            self.data.train, self.step * self.batch, self.steps * self.batch, trainer.workers
        )
        if self.step:
            trainer_checkpoint.load(self.checkpoints, self.step, self.model)
            self._say(f"going on after step {self.step}")
        self.staged.begin(self.step)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def run(self, stop_at: int | None = None) -> None:
        """Train to the end, or to step ``stop_at``."""
        began, first = time.monotonic(), self.step
        end = self.steps if stop_at is None else min(stop_at, self.steps)
        tokens = self.batch * self.plan.run.sequence_length
        forward = self.staged.measured.wrap_forward_step(self._forward_step)
        with Bar(self.step, self.steps, tokens, ranks.rank() == 0) as bar:
            while self.step < end:
                self._step(forward)
                validation = self.plan.trainer.validation_interval
                if validation and self._due(validation, self.steps):
                    self._validate(forward)
                if self._due(self.plan.trainer.checkpoint_interval, end):
                    self._save()
                bar.show(self.step, self._stage())
        self.staged.end()
        seconds = time.monotonic() - began
        done = (self.step - first) * tokens
        self._say(
            f"step {self.step} of {self.steps} in {self.folder}: {done:,} tokens in {seconds:.1f} s"
            + (f", {done / seconds:,.0f} tokens/s" if done else "")
        )

    def _step(self, forward: Callable[..., Any]) -> None:
        self.staged.measured.begin_step()
        self.model.step(forward, self._batches, self.microbatches)
        self.staged.measured.commit_step()
        self.step += 1
        self.staged.after_step(self.step, self.step * self.batch, self.batch)

    def _validate(self, forward: Callable[..., Any]) -> None:
        """The same samples each time, as many of every language."""
        size = validation_size(self.plan)
        for dataset in self.data.valid.values():
            batches = self._microbatches(dataset, 0, size)
            self.model.evaluate(forward, batches, size // self.batch * self.microbatches)
        if self.data.valid:
            self.staged.after_validation(self.step)

    def _save(self) -> None:
        self.staged.before_save(self.step)
        trainer_checkpoint.save(self.checkpoints, self.step, self.model)

    def _forward_step(self, batches: Any, model: Any) -> tuple[Any, Callable[..., Any]]:
        """As in pretrain_gpt.py: attention makes its own causal mask."""
        shape = self.plan.trainer.micro_batch, self.plan.run.sequence_length
        batch = batch_on_this_rank(batches, shape, self.vocabulary, self.device)
        output = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"])
        return output, functools.partial(_loss, batch["loss_mask"])

    def _microbatches(self, dataset: Any, first: int, end: int, workers: int = 0) -> Any:
        micro, pin = self.plan.trainer.micro_batch, self.device.type == "cuda"
        return microbatches(dataset, first, end, micro, workers, pin)

    def _due(self, interval: int, end: int) -> bool:
        return self.step == end or (interval > 0 and self.step % interval == 0)

    def _stage(self) -> str:
        layout = self.staged.layout
        return layout.stages[layout.stage_of(self.step * self.batch - 1)]

    def _found(self, settings: Settings) -> int:
        """The step to go on after, by one rank, before anything is written."""
        check_sources(self.plan, self.vocabulary)
        step = trainer_checkpoint.newest(self.checkpoints)
        settings.check(step)
        return step

    def _prepare(self, settings: Settings) -> None:
        """By one rank, once the folder is this run's."""
        settings.keep()
        trainer_checkpoint.clean(self.checkpoints)

    def _say(self, message: str) -> None:
        if ranks.rank() == 0:
            say(message)


def _loss(loss_mask: torch.Tensor, output: torch.Tensor) -> tuple[Any, ...]:
    """The sum of a microbatch's losses, its tokens, and both for Megatron's report."""
    mask = loss_mask.view(-1).float()
    loss = torch.sum(output.view(-1).float() * mask)
    tokens = mask.sum().detach().to(torch.int)
    return loss, tokens, {"lm loss": torch.cat([loss.detach().view(1), tokens.view(1)])}

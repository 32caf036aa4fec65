"""A small trainer on megatron.core alone, for proxy runs: a plan in, its losses out.

    torchrun --nproc-per-node=2 -m blendlaw_hooks.trainer plan.toml --dir DIR

It trains a LLaMA of the plan's [trainer] table through the plan's stages, with the parts that the
launcher puts into Megatron-LM. DIR gets layout.json, schedule.jsonl, losses.jsonl, fits/, and
checkpoints/; started again with the same DIR it goes on from the newest of these. Without a GPU
it trains on the CPU, without torchrun on one rank.

Bound of Megatron (megatron-core 0.16.1): ``parallel_state``, ``model_parallel_cuda_manual_seed``,
and what trainer_model.py, trainer_data.py and trainer_checkpoint.py name.
"""

from __future__ import annotations

import argparse
import functools
import time
import tomllib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blendlaw.errors import InputError
from blendlaw.plan import Plan, read_plan
from blendlaw.run_folder import say
from blendlaw.trainer_plan import shape
from blendlaw_hooks import cpu, ranks
from blendlaw_hooks.staged_run import StagedRun
from blendlaw_hooks.trainer_setup import about, arrange, device, join, keep_settings, vocabulary

if TYPE_CHECKING:
    from blendlaw_hooks.trainer_data import Data
    from blendlaw_hooks.trainer_model import Model


def train(
    plan: str | Path | Plan,
    folder: str | Path,
    *,
    cache: str | Path | None = None,
    stop_at: int | None = None,
    **changes: Any,
) -> None:
    """Train by ``plan`` in ``folder``, or go on there; every rank of a torchrun job calls it.

    ``cache`` is a folder for the indices of the data (default: in ``folder``), ``stop_at`` a step
    to stop at before the end, ``changes`` are keys of the plan's [trainer] table. Raises InputError
    where the plan, the folder or the ranks are not fit to train with.
    """
    read = plan if isinstance(plan, Plan) else read_plan(plan)
    if changes:
        read = read.with_trainer(changes)
    here = device()
    join(here)
    Training(read, Path(folder), here, cache).run(stop_at)


class Training:
    """A run of the trainer in this process: built, then ``run``."""

    def __init__(
        self, plan: Plan, folder: Path, device: torch.device, cache: str | Path | None
    ) -> None:
        from blendlaw_hooks import trainer_checkpoint, trainer_data, trainer_model

        self.plan, self.folder, self.device = plan, folder, device
        trainer, length = plan.trainer, plan.run.sequence_length
        self.batch = trainer.global_batch
        samples = round(plan.run.tokens / length)
        self.steps = samples // self.batch
        if self.steps == 0:
            problem = f"not one step of {self.batch} samples of {length} tokens"
            raise InputError(problem, column="run.tokens", value=plan.run.tokens)
        self.vocabulary = vocabulary(plan)
        self.shape = shape(trainer, plan.run.params, self.vocabulary)
        data_ranks = arrange(plan)
        at_once = trainer.micro_batch * data_ranks
        self.microbatches = self.batch // at_once
        self.step = ranks.on_one(0, lambda: trainer_checkpoint.newest(self.checkpoints))
        self.staged = StagedRun(
            plan,
            folder,
            samples=samples,
            consumed=self.step * self.batch,
            batch=self.batch,
            prefetched=trainer.workers * trainer_data.PREFETCH_FACTOR * at_once,
            log_interval=trainer.log_interval,
            device=device,
            writer=0,
            cache=str(Path(cache or folder / "cache") / "index"),
            counting=trainer_data.first_of_tensor_group(),
        )
        ranks.on_one(0, self._prepare)
        self._say(about(plan, self.shape, self.steps, data_ranks))
        self.data: Data = trainer_data.build(
            plan,
            self.staged,
            self.vocabulary,
            Path(cache or folder / "cache") / "data",
            own=cache is None,
        )
        self.model: Model = trainer_model.build(plan, self.shape, device, self.steps)
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
        from blendlaw_hooks.trainer_progress import Bar

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
        if self.step == self.steps:
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
        from blendlaw_hooks.trainer_data import validation_size

        size = validation_size(self.plan)
        for dataset in self.data.valid.values():
            batches = self._microbatches(dataset, 0, size)
            self.model.evaluate(forward, batches, size // self.batch * self.microbatches)
        if self.data.valid:
            self.staged.after_validation(self.step)

    def _save(self) -> None:
        from blendlaw_hooks import trainer_checkpoint

        self.staged.before_save(self.step)
        trainer_checkpoint.save(self.checkpoints, self.step, self.model)

    def _forward_step(self, batches: Any, model: Any) -> tuple[Any, Callable[..., Any]]:
        """As in pretrain_gpt.py: attention makes its own causal mask."""
        from blendlaw_hooks.trainer_data import batch_on_this_rank

        shape = self.plan.trainer.micro_batch, self.plan.run.sequence_length
        batch = batch_on_this_rank(batches, shape, self.vocabulary, self.device)
        output = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"])
        return output, functools.partial(_loss, batch["loss_mask"])

    def _microbatches(self, dataset: Any, first: int, end: int, workers: int = 0) -> Any:
        from blendlaw_hooks.trainer_data import microbatches

        return microbatches(dataset, first, end, self.plan.trainer.micro_batch, workers)

    def _due(self, interval: int, end: int) -> bool:
        return self.step == end or (interval > 0 and self.step % interval == 0)

    def _stage(self) -> str:
        layout = self.staged.layout
        return layout.stages[layout.stage_of(self.step * self.batch - 1)]

    def _prepare(self) -> None:
        """On the first rank, once the folder is this run's."""
        from blendlaw_hooks.trainer_checkpoint import clean
        from blendlaw_hooks.trainer_data import check_vocabulary

        keep_settings(self.folder / "trainer.json", self.plan, self.shape)
        check_vocabulary(self.plan, self.vocabulary)
        clean(self.checkpoints)

    def _say(self, message: str) -> None:
        if ranks.rank() == 0:
            say(message)


def _loss(loss_mask: torch.Tensor, output: torch.Tensor) -> tuple[Any, ...]:
    """The sum of a microbatch's losses, its tokens, and both for Megatron's report."""
    mask = loss_mask.view(-1).float()
    loss = torch.sum(output.view(-1).float() * mask)
    tokens = mask.sum().detach().to(torch.int)
    return loss, tokens, {"lm loss": torch.cat([loss.detach().view(1), tokens.view(1)])}


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m blendlaw_hooks.trainer",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, help="plan.toml; its keys are in docs/files.md")
    parser.add_argument("--dir", type=Path, required=True, help="the run's folder, made if needed")
    parser.add_argument("--cache", type=Path, help="where indices of the data are kept")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="stop there, to go on later")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the plan's [trainer] table, such as precision=bf16; may be repeated",
    )
    given = parser.parse_args(argv)
    # They warn of what is not installed, and of their own ways, on every rank.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
    try:
        changes = dict(_change(each) for each in given.set)
        train(given.plan, given.dir, cache=given.cache, stop_at=given.stop_at, **changes)
    except (InputError, OSError) as error:
        from blendlaw_hooks.trainer_data import OutOfVocabulary

        if ranks.rank() == 0 or isinstance(error, OutOfVocabulary):
            say(f"error: {error}")
        raise SystemExit(1) from error
    if device().type == "cpu":
        cpu.leave()


def _change(given: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as in TOML; a word need not be quoted."""
    key, equals, value = given.partition("=")
    if not equals:
        raise InputError("it is KEY=VALUE", column="--set", value=given)
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


if __name__ == "__main__":
    main()

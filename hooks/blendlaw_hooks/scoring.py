"""The losses of given documents under a checkpoint of the trainer, on one rank.

    python -m blendlaw_hooks.scoring plan.toml --dir RUN documents.npz scores.npy

Bound of Megatron (megatron-core 0.16.1): what trainer_model.py and trainer_checkpoint.py bind.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blendlaw.errors import InputError
from blendlaw.plan import Plan, read_plan
from blendlaw.run_folder import errors_said
from blendlaw.trainer_plan import shape
from blendlaw_hooks import cpu
from blendlaw_hooks.trainer_progress import Bar
from blendlaw_hooks.trainer_setup import arrange, device, join, vocabulary

BATCH_TOKENS = 1 << 14
MULTIPLE = 64
"""Rows are padded to a multiple of it: FP8 kernels want whole tiles."""


class Scorer:
    """The model of a checkpoint; ``score`` documents with it.

    ``step`` is that of the checkpoint, the newest where none is given. Raises InputError if the
    plan is not the run's or the checkpoint is not there.
    """

    def __init__(self, plan: Plan, folder: Path, step: int | None = None) -> None:
        alone = plan.with_trainer({"tensor_parallel": 1, "pipeline_parallel": 1})
        self._device = device()
        join(self._device)
        from blendlaw_hooks import trainer_checkpoint
        from blendlaw_hooks.trainer_model import build_model
        from blendlaw_hooks.trainer_setup import Settings

        arrange(alone)
        size = vocabulary(plan)
        made = shape(alone.trainer, plan.run.params, size)
        checkpoints = folder / "checkpoints"
        self.step = trainer_checkpoint.newest(checkpoints) if step is None else step
        if self.step == 0:
            raise InputError("there is no checkpoint", file=checkpoints)
        Settings(folder, alone, made).check(self.step)
        self._length, self._vocabulary = plan.run.sequence_length, size
        model = build_model(alone, made, self._device, 1)
        trainer_checkpoint.load_model(checkpoints, self.step, model)
        model.module.eval()
        self._model = model.module

    @torch.no_grad()
    def score(
        self, documents: Sequence[NDArray[Any]], show: Callable[[int], None] = lambda _: None
    ) -> list[NDArray[np.float32]]:
        """For each document (n,) the losses (n - 1,) of its tokens but the first, in nats.

        ``show`` is told how many are done. Raises InputError where one has a token that the model
        does not know.
        """
        order = sorted(range(len(documents)), key=lambda number: -len(documents[number]))
        found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(documents)
        while order:
            longest = len(documents[order[0]])
            width = min(-(-longest // MULTIPLE) * MULTIPLE, max(self._length, longest))
            rows = max(1, BATCH_TOKENS // width)
            batch, order = order[:rows], order[rows:]
            losses = self._losses([documents[number] for number in batch], width)
            for row, number in zip(losses, batch, strict=True):
                found[number] = row[: len(documents[number]) - 1]
            show(len(documents) - len(order))
        return found

    def _losses(self, documents: Sequence[NDArray[Any]], width: int) -> NDArray[np.float32]:
        tokens = np.zeros((len(documents), width + 1), np.int64)
        for row, document in zip(tokens, documents, strict=True):
            row[: len(document)] = document
        if int(tokens.max()) >= self._vocabulary:
            problem = f"a token {tokens.max()}, but the vocabulary has {self._vocabulary}"
            raise InputError(problem, column="trainer.vocabulary")
        moved = torch.from_numpy(tokens).to(self._device)
        positions = torch.arange(width, device=self._device).expand(len(documents), width)
        inputs, labels = moved[:, :-1].contiguous(), moved[:, 1:].contiguous()
        losses = self._model(inputs, positions, None, labels=labels)
        scores: NDArray[np.float32] = losses.float().cpu().numpy()
        return scores


def target_losses(path: Path, scorer: Scorer, shown: bool) -> NDArray[np.float64]:
    """The summed loss of each document's target in the .npz of ``Documents.save``, (n,) nats."""
    with np.load(path) as held:
        tokens, begins = held["tokens"], held["begins"]
        starts, ends = held["starts"], held["ends"]
    documents = [tokens[begins[n] : begins[n + 1]] for n in range(len(starts))]
    with Bar(0, len(documents), 1, shown) as bar:
        scores = scorer.score(documents, lambda done: bar.show(done, "pairs"))
    spans = zip(scores, starts.tolist(), ends.tolist(), strict=True)
    return np.array([row[start - 1 : end - 1].sum(dtype=np.float64) for row, start, end in spans])


def main(argv: Sequence[str] | None = None) -> None:
    """The command: scores.npy has the step, then the summed loss of each document's target."""
    parser = argparse.ArgumentParser(prog="python -m blendlaw_hooks.scoring", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("plan", type=Path)
    parser.add_argument("--dir", type=Path, required=True, help="the run's folder")
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    parser.add_argument("documents", type=Path)
    parser.add_argument("scores", type=Path)
    given = parser.parse_args(argv)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"megatron\.")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(megatron|torch)\.")
    with errors_said():
        scorer = Scorer(read_plan(given.plan), given.dir, given.step)
        nats = target_losses(given.documents, scorer, shown=True)
    np.save(given.scores, np.append(float(scorer.step), nats))
    if device().type == "cpu":
        cpu.leave()


if __name__ == "__main__":
    main()

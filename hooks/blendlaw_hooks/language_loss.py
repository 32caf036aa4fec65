"""The loss of every language while a Megatron model trains, without ever waiting for the device.

Megatron drops the ``dataset_id`` of a batch before the loss is known. So the iterator is tapped
inside ``forward_step`` and the loss function it returns is wrapped: both belong to one call, hence
to one microbatch, whatever order a pipeline schedule works in. Each rank adds to a private
[languages, 2] tensor on its device (sum of losses in nats, tokens); ``collect`` sums it over the
ranks once per log interval.

    measured = LanguageLoss(["Python", "Go"], of_dataset=[0, 0, 1], device=device)
    forward_step = measured.wrap_forward_step(forward_step)
    measured.follow_reruns(get_rerun_state_machine())
    …
    if step % log_interval == 0:
        losses = measured.collect("train")   # on every rank
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch

DATASET_ID = "dataset_id"  # [b]: Megatron's, the position in the blend
LANGUAGE_ID = "language_id"  # [b, s]: blendlaw's own, for samples of several languages
Split = Literal["train", "valid"]


class Loss(NamedTuple):
    """Mean loss of a language in nats per token, and how many tokens it is the mean of.

    ``loss`` is NaN or infinite where that language's own was: it spoils no other.
    """

    loss: float
    tokens: int


class Tap:
    """The iterator of one call of ``forward_step``: keeps the languages out of Megatron's sight."""

    def __init__(self, batches: Iterator[Mapping[str, Any]]) -> None:
        self._batches = batches
        self.dataset: torch.Tensor | None = None  # [b]
        self.language: torch.Tensor | None = None  # [b, s]

    def __iter__(self) -> Tap:
        return self

    def __next__(self) -> dict[str, Any]:
        batch = dict(next(self._batches))  # a copy: a replayed step reads the batch again
        self.dataset = batch.pop(DATASET_ID, None)
        self.language = batch.pop(LANGUAGE_ID, None)
        return batch


class LanguageLoss:
    """Sums of losses and tokens by language; training and validation apart.

    ``of_dataset[i]`` is the language (index into ``languages``) of the blend's i-th dataset,
    ``of_valid_dataset`` the same for validation where its blend is another one.
    ``counting`` is False on ranks whose losses another rank counts: all but the first of each
    tensor-parallel group, where the data reach them too (Megatron gives them to the first only).
    ``context_parallel`` is (size, rank). Raises ValueError if a dataset has no language.
    """

    def __init__(
        self,
        languages: Sequence[str],
        of_dataset: Sequence[int],
        device: torch.device | str,
        *,
        of_valid_dataset: Sequence[int] | None = None,
        counting: bool = True,
        context_parallel: tuple[int, int] = (1, 0),
    ) -> None:
        self.languages = tuple(languages)
        self.counting = counting
        self.context_parallel = context_parallel
        self._device = torch.device(device)
        by_split = {"train": of_dataset, "valid": of_valid_dataset or of_dataset}
        for split, indexes in by_split.items():
            for dataset, language in enumerate(indexes):
                if not 0 <= language < len(self.languages):
                    raise ValueError(
                        f"dataset {dataset} of the {split} blend has language {language}, "
                        f"but there are {len(self.languages)} languages"
                    )
        self._of_dataset = {
            split: torch.tensor(indexes, dtype=torch.long, device=self._device)
            for split, indexes in by_split.items()
        }
        self._bank = {split: self._zeros() for split in by_split}
        self._step = self._zeros()  # of the training step under way, which may be replayed

    def _zeros(self) -> torch.Tensor:
        # Apple's devices have no doubles. Sums in single precision are good to about 1e-6.
        dtype = torch.float32 if self._device.type == "mps" else torch.float64
        return torch.zeros(len(self.languages), 2, dtype=dtype, device=self._device)

    def wrap_forward_step(self, forward_step: Callable[..., Any]) -> Callable[..., Any]:
        """Megatron's ``forward_step(data_iterator, model, …)`` with its losses counted.

        What it returns, and the loss function's results, stay as they are. Whether a call trains
        or validates is read from ``model.training``.
        """

        @functools.wraps(forward_step)
        def counted(data_iterator: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            tap = self.tap(data_iterator)
            output, loss_func = forward_step(tap, model, *args, **kwargs)
            return output, self.wrap_loss(loss_func, tap, "train" if model.training else "valid")

        return counted

    def tap(self, data_iterator: Iterator[Mapping[str, Any]] | None) -> Tap | None:
        """The same batches without the ids; None, where a rank reads no data, stays None."""
        return None if data_iterator is None else Tap(data_iterator)

    def wrap_loss(
        self, loss_func: Callable[..., Any], tap: Tap | None, split: Split = "train"
    ) -> Callable[..., Any]:
        """``loss_func(losses [b, s])`` with the microbatch read through ``tap`` counted.

        ``loss_func`` is ``partial(function, loss_mask, …)``, as in every version of Megatron: the
        mask is the very one that the loss is made with, already sliced. Raises ValueError if not,
        and when it is called with anything but one tensor of losses.
        """
        if tap is None or not self.counting or (tap.dataset is None and tap.language is None):
            return loss_func
        mask = _mask_of(loss_func)
        if mask is None:
            return loss_func

        @functools.wraps(loss_func)
        def counted(losses: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            result = loss_func(losses, *args, **kwargs)
            if not kwargs.get("non_loss_data"):
                if not isinstance(losses, torch.Tensor):  # LLaVA's, with a mask of the model's
                    raise ValueError(
                        f"the model returns a {type(losses).__name__}, not losses [b, s]: "
                        "the loss of each language cannot be counted"
                    )
                self._add(losses.detach(), mask, self._languages(tap, split), split)
            return result

        return counted

    def _languages(self, tap: Tap, split: Split) -> torch.Tensor:
        """The language of each sample [b] or of each token on this rank [b, s / size]."""
        if tap.language is not None:
            return _upload(zigzag(tap.language, *self.context_parallel), self._device)
        assert tap.dataset is not None
        return self._of_dataset[split][_upload(tap.dataset.reshape(-1), self._device)]

    @torch.no_grad()
    def _add(
        self, losses: torch.Tensor, mask: torch.Tensor, language: torch.Tensor, split: Split
    ) -> None:
        bank = self._step if split == "train" else self._bank[split]
        mask = mask.reshape(losses.shape).to(bank.dtype)
        # Not losses × mask: a masked token's loss may be NaN.
        weighted = torch.where(mask > 0, losses.to(bank.dtype) * mask, 0.0)
        if language.dim() == 1:
            assert len(language) == len(losses), "one language a sample"
            weighted, mask = weighted.sum(1), mask.sum(1)
        else:
            language = torch.where(mask > 0, language, 0)  # padding may have no language
        # index_add, not a product with a one-hot matrix: 0 × NaN would spoil every language.
        bank.index_add_(
            0, language.reshape(-1), torch.stack((weighted, mask), dim=-1).reshape(-1, 2)
        )

    def begin_step(self) -> None:
        """A training step begins, or begins again: what it counted before is forgotten."""
        self._step.zero_()

    def commit_step(self) -> None:
        """The training step counts. Steps never committed appear in no result."""
        self._bank["train"].add_(self._step)
        self._step.zero_()

    def follow_reruns(self, machine: Any, then: Callable[[], None] | None = None) -> None:
        """Begin and commit steps as Megatron's rerun state machine does: a replay counts once.

        ``then`` is called after each commit: a step is done, but for the optimizer's part.
        """
        should_run = machine.should_run_forward_backward

        @functools.wraps(should_run)
        def followed(data_iterator: Any) -> bool:
            run: bool = should_run(data_iterator)
            if run:
                self.begin_step()
            else:
                self.commit_step()
                if then is not None:
                    then()
            return run

        machine.should_run_forward_backward = followed

    def collect(
        self, split: Split = "train", group: torch.distributed.ProcessGroup | None = None
    ) -> dict[str, Loss]:
        """The losses since the last call, summed over all ranks of ``group``; then from zero.

        One all-reduce of [languages, 2] and one read of the device: call it once per log interval,
        on every rank of the group (default: all, so that every rank gets the result; those which
        count nothing add zeros). Languages without tokens are left out.
        """
        total = self._summed(split, group)
        self._bank[split].zero_()
        return {
            language: Loss(loss / tokens, round(tokens))
            for language, (loss, tokens) in zip(self.languages, total, strict=True)
            if tokens
        }

    def pending(self, group: torch.distributed.ProcessGroup | None = None) -> list[list[float]]:
        """Sums of losses and tokens since training losses were last collected, over all ranks.

        [languages, 2]: what a checkpoint between two log intervals would lose. On every rank.
        """
        return self._summed("train", group)

    def restore(self, pending: list[list[float]]) -> None:
        """Count ``pending`` again, on one rank. Raises ValueError if it is of other languages."""
        if len(pending) != len(self.languages):
            raise ValueError(f"sums of {len(pending)} languages, not {len(self.languages)}")
        bank = self._bank["train"]
        bank.add_(torch.tensor(pending, dtype=bank.dtype, device=bank.device))

    def _summed(self, split: Split, group: torch.distributed.ProcessGroup | None) -> list[Any]:
        total = self._bank[split].clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total, group=group)
        found: list[Any] = total.tolist()
        return found


def zigzag(ids: torch.Tensor, size: int, rank: int) -> torch.Tensor:
    """The part [b, s / size] of ``ids`` [b, s] that a context-parallel rank works on.

    Of 2·size chunks the rank-th from either end, so that causal attention costs the ranks the
    same (``get_batch_on_this_cp_rank`` of megatron.core.utils). s is a multiple of 2·size.
    """
    if size == 1:
        return ids
    chunks = ids.chunk(2 * size, dim=1)
    return torch.cat((chunks[rank], chunks[2 * size - rank - 1]), dim=1)


def _mask_of(loss_func: Callable[..., Any]) -> torch.Tensor | None:
    """The loss mask; None on a pipeline stage that is given none, since it has no loss either."""
    if isinstance(loss_func, functools.partial):
        for mask in (*loss_func.args[:1], loss_func.keywords.get("loss_mask")):
            if isinstance(mask, torch.Tensor):
                return mask
        if loss_func.args[:1] == (None,):
            return None
    raise ValueError(
        "forward_step returns a loss function without its loss mask: the loss of each language "
        "needs functools.partial(loss_func, loss_mask), as in Megatron's pretrain_gpt.py"
    )


def _upload(ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``ids`` as indexes on ``device``. From pageable memory the copy would wait for the stream."""
    if device.type == "cuda" and ids.device.type == "cpu":
        ids = ids.pin_memory()
    return ids.to(device, non_blocking=True).long()

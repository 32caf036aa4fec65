"""What the tokens of samples are counted as, where a run has translation pairs among its sources.

Bound of Megatron (the same in core_v0.12 to 0.19 and main of August 2026): a ``GPTDataset``'s
``shuffle_index``, ``sample_index`` and ``document_index``, by which a sample says its document.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from blendlaw.errors import InputError
from blendlaw.pairs.kinds import Kinds
from blendlaw.pairs.segments import Segments
from blendlaw_hooks.language_loss import LANGUAGE_ID


class Labels(Protocol):
    """Puts into sample ``index`` of ``dataset`` the kind of each token that is predicted, [s]."""

    def __call__(self, dataset: Any, index: int, sample: dict[str, Any]) -> None: ...


class OneLanguage:
    """Labels of a source that is of one language."""

    def __init__(self, language: int) -> None:
        self._language = language

    def __call__(self, dataset: Any, index: int, sample: dict[str, Any]) -> None:
        sample[LANGUAGE_ID] = np.full(len(sample["tokens"]), self._language, np.int16)


class PairLabels:
    """Labels of packed pairs, of a GPTDataset of ``prefix``; and the loss mask that is theirs.

    No loss is on padding, nor on the last token: it would predict the next sequence. Raises
    InputError if the pairs are not of ``sequence_length``, or if a sample is not one sequence.
    """

    def __init__(self, prefix: str, kinds: Kinds, sequence_length: int) -> None:
        self._prefix, self._kinds = prefix, kinds
        self._segments = Segments(prefix)
        self._about = self._segments.about
        if self._about.sequence_length != sequence_length:
            raise InputError(
                f"packed for sequences of {self._about.sequence_length} tokens, the run's have "
                f"{sequence_length}",
                file=f"{prefix}.pairs.json",
            )
        self._table = kinds.table(self._about)

    def __call__(self, dataset: Any, index: int, sample: dict[str, Any]) -> None:
        sequence = self._sequence(dataset, index)
        kinds, counts = self._kinds.of_tokens(self._about, self._table, self._segments.of(sequence))
        neither = len(self._kinds.names) - 1
        sample[LANGUAGE_ID] = np.append(kinds[1:], np.int16(neither))
        # Not a change of Megatron's mask: it keeps the first sample's, padding masked, for all.
        mask = np.append(counts[1:], False)
        if dataset.config.eod_mask_loss:
            mask &= sample["tokens"].numpy() != self._about.eod
        sample["loss_mask"] = torch.from_numpy(mask).to(sample["loss_mask"].dtype)

    def _sequence(self, dataset: Any, index: int) -> int:
        """The stored document that is sample ``index``, once ``dataset`` has read it.

        Megatron may open the indices on the first read only.
        """
        document, offset = dataset.sample_index[dataset.shuffle_index[index]].tolist()
        length = self._about.sequence_length
        if offset % length:
            problem = "a sample begins within a sequence: are all of its documents one sequence?"
            raise InputError(problem, file=f"{self._prefix}.idx", value=offset)
        return int(dataset.document_index[document + offset // length])

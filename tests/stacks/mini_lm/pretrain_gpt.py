"""The stand-in's script: what Megatron-LM's own pretrain_gpt.py gives to ``pretrain``."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.training import get_args, pretrain

from blendlaw_hooks.trainer_data import Ids


def loss_func(loss_mask: torch.Tensor, output: torch.Tensor) -> Any:
    mask = loss_mask.view(-1).float()
    loss = torch.sum(output.view(-1).float() * mask)
    tokens = mask.sum().detach().to(torch.int)
    return loss, tokens, {"lm loss": torch.cat([loss.detach().view(1), tokens.view(1)])}


def forward_step(data_iterator: Any, model: Any) -> Any:
    batch = next(data_iterator)
    assert "dataset_id" not in batch or not get_args().lacks_own_data
    output = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"])
    return output, partial(loss_func, batch["loss_mask"])


def weighed(given: list[str] | None) -> Any:
    return given and (given[1::2], [float(weight) for weight in given[::2]])


def train_valid_test_datasets_provider(sizes: Any, vp_stage: Any = None) -> Any:
    args = get_args()
    train, valid = weighed(args.train_data_path), weighed(args.valid_data_path)
    args.lacks_own_data = train is None
    config = GPTDatasetConfig(
        random_seed=1234,
        sequence_length=args.seq_length,
        blend_per_split=[train, valid, None] if train else None,
        split=None if train else "1,0,0",
        tokenizer=Ids(args.vocab_size),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    return BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()


if __name__ == "__main__":
    train_valid_test_datasets_provider.is_distributed = True  # type: ignore[attr-defined]
    pretrain(train_valid_test_datasets_provider, None, None, forward_step)

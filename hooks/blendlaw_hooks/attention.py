"""Causal attention by torch's own kernel, where there is no Transformer Engine.

Megatron's DotProductAttention writes every score to memory, several times over: on a CPU that
takes most of a small model's step.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer import TransformerConfig


class CausalAttention(torch.nn.Module):
    """A ``core_attention`` for Megatron's layer specs: causal, no dropout, no packed sequences."""

    def __init__(self, config: TransformerConfig, *_: Any, **__: Any) -> None:
        super().__init__()
        assert config.attention_dropout == 0.0
        assert config.num_query_groups == config.num_attention_heads

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        """From [tokens, batch, heads, size] three times to [tokens, batch, heads × size]."""
        query, key, value = (each.permute(1, 2, 0, 3) for each in (query, key, value))
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True
        )
        return attended.permute(2, 0, 1, 3).flatten(2)

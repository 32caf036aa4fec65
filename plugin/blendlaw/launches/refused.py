"""Flags of Megatron-LM that a staged blend cannot go with: the one table of them."""

from __future__ import annotations

from typing import Any

DATA = (
    "data_path",
    "data_args_path",
    "train_data_path",
    "valid_data_path",
    "test_data_path",
    "per_split_data_args_path",
    "mock_data",
)

# args' name: (what it must be, or is taken to be where the version has no such flag), the reason.
OTHERS: dict[str, tuple[Any, str]] = {
    "dataloader_type": ("single", "other loaders shuffle or bring samples of their own"),
    "phase_transition_iterations": (None, "each phase starts its data anew: use stages instead"),
    "sft": (False, "packed conversations have no stages"),
    "perform_rl_step": (False, "its samples are generated"),
    "hybrid_context_parallel": (False, "it deals samples out by their length"),
    "retro_add_retriever": (False, "its datasets are its own"),
    "per_dataset_sequences_path": (None, "the files are the plan's"),
}

GRAPHED = (
    "cannot go with losses by language: a replayed graph has the languages of the step that it "
    "was captured on"
)
"""Why not ``--cuda-graph-scope full_iteration``, or ``--cuda-graph-impl`` of later versions."""


def flag_of(name: str) -> str:
    """The flag of a name in Megatron's arguments."""
    return "--" + name.replace("_", "-")

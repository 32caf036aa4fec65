"""Flags of Megatron-LM that a staged blend cannot go with, each named with what to do instead."""

from __future__ import annotations

from typing import Any

from blendlaw.errors import InputError
from blendlaw.plan import Plan

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


def refuse(args: Any, plan: Plan) -> None:
    """Raise InputError at the first flag of ``args`` that cannot go with ``plan``."""
    for name in DATA:
        if getattr(args, name, None):
            raise InputError(f"leave out {_flag(name)}: the sources are those of the plan")
    for name, (wanted, reason) in OTHERS.items():
        if (getattr(args, name, wanted) or wanted) != wanted:
            problem = f"{_flag(name)} cannot go with stages: {reason}"
            raise InputError(problem, value=getattr(args, name))
    if args.seq_length != plan.run.sequence_length:
        raise InputError(
            f"--seq-length is {args.seq_length}, the plan's is {plan.run.sequence_length}",
            column="run.sequence_length",
        )
    if getattr(args, "fim_data", False) and plan.pairs and plan.pairs.valid_sources:
        problem = "--fim-data would tear them: leave them out (pairs to train on are kept whole)"
        raise InputError(problem, column="pairs.valid_sources")
    scopes = getattr(args, "cuda_graph_scope", None) or []
    if "full_iteration" in str(scopes):
        raise InputError(
            "--cuda-graph-scope full_iteration cannot go with losses by language: a replayed "
            "graph has the languages of the step that it was captured on"
        )
    evaluates = getattr(args, "full_validation", False) or args.eval_iters
    if evaluates and not any(language.valid_sources for language in plan.languages.values()):
        raise InputError(
            "the plan has no valid_sources to evaluate on: name some, or set --eval-iters 0"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")

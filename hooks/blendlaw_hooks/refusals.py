"""What a staged blend cannot go with in a stack's settings, each with what to do instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from blendlaw.errors import InputError
from blendlaw.launches.refused import DATA, GRAPHED, OTHERS, flag_of
from blendlaw.plan import Plan

BRIDGE_DATA = ("blend", "blend_per_split", "data_path")


def refuse(args: Any, plan: Plan) -> None:
    """Raise InputError at the first flag of Megatron-LM's ``args`` that cannot go with ``plan``."""
    _refuse_data(args, DATA, flag_of)
    _refuse_length("--seq-length", args.seq_length, plan)
    _refuse_torn_pairs("--fim-data", args, plan)
    if "full_iteration" in str(getattr(args, "cuda_graph_scope", None)):
        raise InputError(f"--cuda-graph-scope full_iteration {GRAPHED}")
    _refuse_blind("--eval-iters", getattr(args, "full_validation", False) or args.eval_iters, plan)


def refuse_bridge(config: Any, plan: Plan) -> None:
    """Raise InputError at the first of Megatron-Bridge's ``config`` that cannot go with ``plan``.

    ``config`` is a ConfigContainer as a recipe makes it, not yet validated by Bridge.
    """
    from megatron.bridge.training.config import GPTDatasetConfig, MockGPTDatasetConfig

    data, model = config.dataset, config.model
    if not isinstance(data, GPTDatasetConfig) or isinstance(data, MockGPTDatasetConfig):
        kind = type(data).__name__
        raise InputError(f"config.dataset is a {kind}: it must be a GPTDatasetConfig, without data")
    _refuse_data(data, BRIDGE_DATA, "config.dataset.{}".format)
    _refuse_length("config.dataset.seq_length", data.seq_length, plan)
    _refuse_length("config.model.seq_length", model.seq_length, plan)
    _refuse_torn_pairs("a GPTFIMDatasetConfig", data, plan)
    graphs = ("cuda_graph_impl", "cuda_graph_scope", "cuda_graph_modules")
    graphed = getattr(model, "cuda_graph_impl", "none") != "none"
    if graphed and any("full_iteration" in str(getattr(model, name, None)) for name in graphs):
        raise InputError(f"config.model with a CUDA graph of the full iteration {GRAPHED}")
    if config.dist.use_decentralized_pg:
        problem = "leave it out: which rank counts what is read from Megatron's own groups"
        raise InputError(problem, column="config.dist.use_decentralized_pg")
    sliced = getattr(config.dist, "eval_context_parallel_size", None)  # since 0.5
    if sliced is not None and plan.pairs and plan.pairs.valid_sources:
        problem = "leave it out: tokens of pairs are told apart as training slices them"
        raise InputError(problem, column="config.dist.eval_context_parallel_size")
    iterations = getattr(config.train, "eval_iters", None)  # where it is until 0.3
    if iterations is None:
        iterations = config.validation.eval_iters
    _refuse_blind("config.validation.eval_iters", iterations, plan)


def _refuse_data(given: Any, names: Iterable[str], spelled: Callable[[str], str]) -> None:
    for name in names:
        if getattr(given, name, None):
            raise InputError(f"leave out {spelled(name)}: the sources are those of the plan")
    for name, (wanted, reason) in OTHERS.items():
        if (getattr(given, name, wanted) or wanted) != wanted:
            problem = f"{spelled(name)} cannot go with stages: {reason}"
            raise InputError(problem, value=getattr(given, name))


def _refuse_length(spelled: str, length: int, plan: Plan) -> None:
    if length != plan.run.sequence_length:
        problem = f"{spelled} is {length}, the plan's is {plan.run.sequence_length}"
        raise InputError(problem, column="run.sequence_length")


def _refuse_torn_pairs(spelled: str, given: Any, plan: Plan) -> None:
    if getattr(given, "fim_data", False) and plan.pairs and plan.pairs.valid_sources:
        problem = f"{spelled} would tear them: leave them out (pairs to train on are kept whole)"
        raise InputError(problem, column="pairs.valid_sources")


def _refuse_blind(spelled: str, evaluates: Any, plan: Plan) -> None:
    if evaluates and not any(entry.valid_sources for entry in plan.mixture.values()):
        raise InputError(
            f"the plan has no valid_sources to evaluate on: name some, or set {spelled} 0"
        )

"""Flags of Megatron-LM that a staged blend cannot go with, each named with what to do instead."""

from __future__ import annotations

from typing import Any

from blendlaw.errors import InputError
from blendlaw.launches.refused import DATA, GRAPHED, OTHERS, flag_of
from blendlaw.plan import Plan


def refuse(args: Any, plan: Plan) -> None:
    """Raise InputError at the first flag of ``args`` that cannot go with ``plan``."""
    for name in DATA:
        if getattr(args, name, None):
            raise InputError(f"leave out {flag_of(name)}: the sources are those of the plan")
    for name, (wanted, reason) in OTHERS.items():
        if (getattr(args, name, wanted) or wanted) != wanted:
            problem = f"{flag_of(name)} cannot go with stages: {reason}"
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
        raise InputError(f"--cuda-graph-scope full_iteration {GRAPHED}")
    evaluates = getattr(args, "full_validation", False) or args.eval_iters
    if evaluates and not any(language.valid_sources for language in plan.languages.values()):
        raise InputError(
            "the plan has no valid_sources to evaluate on: name some, or set --eval-iters 0"
        )

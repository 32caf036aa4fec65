"""Pairs beyond one machine: steps of datatrove pipelines, whose tasks are the shards.

datatrove starts the tasks (on this machine, on Slurm or on Ray), runs again those that failed and
keeps their logs; what a task does is ``blendlaw pairs build --shard rank/world_size``.

    LocalPipelineExecutor([BuildPairs("plan.toml", "out/pairs")], tasks=64, workers=16).run()
    LocalPipelineExecutor([MergePairs("out/pairs")], tasks=1).run()

The prefix is on a disk that all tasks see.
"""

from __future__ import annotations

from typing import Any

from datatrove.pipeline.base import PipelineStep

from blendlaw.pairs.build import build, read_build
from blendlaw.pairs.merge import merge


class BuildPairs(PipelineStep):  # type: ignore[misc, unused-ignore]
    """Builds one shard of what [pairs.build] of ``plan`` says, under ``prefix``."""

    type = "🔁 - PAIRS"
    name = "blendlaw pairs build"

    def __init__(self, plan: str, prefix: str) -> None:
        super().__init__()
        self.plan, self.prefix = plan, prefix

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Raises InputError, OSError: datatrove counts the task as failed and runs it again."""
        plan, options = read_build(self.plan)
        build(plan, options, self.prefix, shard=(rank, world_size))
        return data


class MergePairs(PipelineStep):  # type: ignore[misc, unused-ignore]
    """Puts together what all tasks of ``BuildPairs`` built; for one task, after them."""

    type = "🔁 - PAIRS"
    name = "blendlaw pairs merge"

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Raises InputError where a shard is missing; OSError."""
        if rank == 0:
            merge(self.prefix)
        return data

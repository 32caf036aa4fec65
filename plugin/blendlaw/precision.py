"""Precisions of training: which flags of Megatron a recipe is, and what it needs to run.

What each needs is what Transformer Engine checks when a recipe is used (``check_recipe_support``,
``assert_dim_for_fp8_exec`` and ``cublaslt_gemm.cu`` of its main, read 2026-11-28) and what
Megatron-LM asks before it passes one on (``megatron/core/fp8_utils.py``, core_v0.12.0 to 0.20).
The flags have the same names in all of these; only ``--fp8-recipe blockwise`` is not in 0.12.0
(it is in 0.16.1; between them nothing was looked at).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Version = tuple[int, int]

HOPPER: Version = (9, 0)
"""Compute capability of H100, H200 and H800."""

BLACKWELL: Version = (10, 0)


@dataclass(frozen=True)
class Recipe:
    """A precision; versions are the least that it needs, None where any will do.

    ``fp8`` are Megatron's keys of it without their ``fp8_``; it is empty for bf16. ``multiple`` is
    what every size of a matrix must be a multiple of. ``block`` is how many values share a scale,
    where that is fewer than a tensor has.
    """

    name: str
    fp8: Mapping[str, str | int]
    capability: Version
    engine: Version | None = None
    cuda: Version | None = None
    megatron: Version | None = None
    multiple: int = 1
    block: int = 1

    @property
    def flags(self) -> tuple[str, ...]:
        """Of Megatron-LM."""
        own = (f"--fp8-{key.replace('_', '-')} {value}" for key, value in self.fp8.items())
        return (*(["--transformer-impl transformer_engine"] * bool(self.fp8)), "--bf16", *own)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("bf16", {}, (8, 0)),
        Recipe(
            "delayed",
            {
                "format": "hybrid",
                "recipe": "delayed",
                # The engine's own defaults. Megatron's, 1 and most_recent, scale by the last step.
                "amax_history_len": 1024,
                "amax_compute_algo": "max",
            },
            (8, 9),
            engine=(1, 0),
            multiple=16,
        ),
        Recipe(
            "tensorwise",
            {"format": "hybrid", "recipe": "tensorwise"},
            (8, 9),
            engine=(2, 2),
            multiple=16,
        ),
        Recipe(
            "blockwise",
            # A scale for 128 values needs no wider range for gradients: E4M3 for all.
            {"format": "e4m3", "recipe": "blockwise"},
            HOPPER,
            engine=(2, 3),
            cuda=(12, 9),
            megatron=(0, 13),
            multiple=16,
            block=128,
        ),
        Recipe(
            "mxfp8",
            {"format": "e4m3", "recipe": "mxfp8"},
            BLACKWELL,
            engine=(2, 1),
            multiple=32,
            block=32,
        ),
    )
}


def lacks(
    recipe: Recipe,
    capability: Version | None = None,
    engine: Version | None = None,
    cuda: Version | None = None,
    megatron: Version | None = None,
) -> list[str]:
    """What ``recipe`` needs and has not; what is None is not known, and not missed."""
    found = []
    for name, here, needed in (
        ("compute capability", capability, recipe.capability),
        ("Transformer Engine", engine, recipe.engine),
        ("CUDA", cuda, recipe.cuda),
        ("Megatron", megatron, recipe.megatron),
    ):
        if here is not None and needed is not None and here < needed:
            found.append(f"{name} {dotted(needed)} or later, not {dotted(here)}")
    return found


def version(text: str) -> Version | None:
    """The first two numbers of a version such as ``2.9.0+70f53666`` or ``core_v0.16.1``."""
    numbers = text.strip().removeprefix("core_").removeprefix("v").split("+")[0].split(".")
    return (
        (int(numbers[0]), int(numbers[1]))
        if all(map(_whole, numbers[:2])) and numbers[1:]
        else None
    )


def dotted(of: Version) -> str:
    return f"{of[0]}.{of[1]}"


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6

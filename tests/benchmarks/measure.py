"""What the benchmarks share: CPU time, the machine's description, the printed table, and data."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

import blendlaw

Array = NDArray[np.float64]
T = TypeVar("T")

# Threads that wait for each other burn CPU time without doing anything.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# The law of ``points``: N and D in ones (Hoffmann's data as refitted in arXiv 2404.10102).
KNOWN = {"E": 1.8172, "A": 477.8, "B": 2143.9, "alpha": 0.3473, "beta": 0.3672}
BILLION = 1e9


def cpu(function: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of one call, and what it returned."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def in_turn(repeats: int, *functions: Callable[[], object]) -> list[float]:
    """Median CPU seconds of each function, called in turn so that all meet the same machine."""
    for function in functions:  # imports and caches are not what is measured
        function()
    times = [[cpu(function)[0] for function in functions] for _ in range(repeats)]
    return [float(x) for x in np.median(times, axis=0)]


def machine() -> dict[str, str]:
    """The CPU's model and the versions that matter."""
    model = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [x for x in listing.read_text().splitlines() if x.startswith("model name")]
        model = f"{names[0].split(':')[1].strip()} ({len(names)} cores)" if names else model
    return {
        "cpu": model,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "blendlaw": blendlaw.__version__,
    }


def arguments(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has.

    Where numpy was loaded to use several threads, the script is started anew with one.
    """
    if not ONE_THREAD.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=repeats, help="medians are over this many")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def report(title: str, figures: dict[str, Any], as_json: bool) -> None:
    """Print ``figures`` (what was measured -> a number or words) as a table or as JSON."""
    if as_json:
        print(json.dumps({"benchmark": title, "machine": machine(), "figures": figures}))
        return
    print(title)
    print("  " + ", ".join(f"{name} {value}" for name, value in machine().items()))
    width = max(map(len, figures))
    for what, figure in figures.items():
        text = f"{figure:.4g}" if isinstance(figure, float) else str(figure)
        print(f"  {what:{width}}  {text}")


def points(count: int = 240, seed: int = 0) -> tuple[Array, Array, Array]:
    """Parameters, tokens (counts) and losses of ``count`` runs of the known law, (n,) each.

    Nine compute budgets, sizes around the best of each, and heavy-tailed noise: Student's t with 3
    degrees of freedom, of standard deviation 0.5%.
    """
    generator = np.random.default_rng(seed)
    flop = 10 ** np.linspace(18.8, 21.5, 9)[np.arange(count) % 9]
    params = np.sqrt(flop / 120) * 10 ** generator.uniform(-0.7, 0.7, count)
    tokens = flop / 6 / params
    loss = KNOWN["E"] + KNOWN["A"] / params ** KNOWN["alpha"] + KNOWN["B"] / tokens ** KNOWN["beta"]
    noise = generator.standard_t(3, count) * 0.005 / np.sqrt(3)
    return params, tokens, loss * np.exp(noise)


def observations(params: Array, tokens: Array, loss: Array) -> list[blendlaw.Observation]:
    """The points as a user of blendlaw has them."""
    return [
        blendlaw.Observation(language="text", params=n, tokens=d, loss=x)
        for n, d, x in zip(params.tolist(), tokens.tolist(), loss.tolist(), strict=True)
    ]


def in_ones(params: dict[str, float]) -> Array:
    """A Chinchilla fit as log A, log B, log E, alpha, beta with N and D in ones."""
    alpha, beta = params["alpha"], params["beta"]
    log_a = np.log(params["A"]) + alpha * np.log(BILLION)
    log_b = np.log(params["B"]) + beta * np.log(BILLION)
    return np.array([log_a, log_b, np.log(params["E"]), alpha, beta])

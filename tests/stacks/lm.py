"""Runs pretrain_gpt.py of a Megatron-LM checkout, with and without blendlaw, on the CPU.

A checkout is in no package: ``BLENDLAW_MEGATRON_LM`` names one. Without it the stand-in in
``mini_lm`` is run, which has the names that the launcher binds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VARIABLE = "BLENDLAW_MEGATRON_LM"
MINI = Path(__file__).with_name("mini_lm")
CHECKOUT = Path(os.environ.get(VARIABLE, MINI)).resolve()
SEQUENCE, BATCH, STEPS = 64, 16, 60

ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("hooks", "plugin")),
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}

FLAGS = f"""
--num-layers 2 --hidden-size 32 --num-attention-heads 4 --seq-length {SEQUENCE}
--max-position-embeddings {SEQUENCE} --position-embedding-type rope --swiglu
--disable-bias-linear --normalization RMSNorm --hidden-dropout 0 --attention-dropout 0
--micro-batch-size 4 --global-batch-size {BATCH} --train-iters {STEPS}
--lr 3e-3 --min-lr 1e-3 --lr-decay-style cosine --lr-warmup-iters 5
--tokenizer-type NullTokenizer --vocab-size 63 --make-vocab-size-divisible-by 64
--eval-interval 10 --eval-iters 2 --log-interval 5 --num-workers 0
--no-create-attention-mask-in-dataloader
""".split()


def plan(stages: list[tuple[str, Any]], law: str = "chinchilla", rust: str = "") -> str:
    """plan.toml of equal stages; ``rust`` are further keys of that language."""
    tokens = STEPS * BATCH * SEQUENCE // len(stages)
    lines = ["[run]", "params = 60e3", f"sequence_length = {SEQUENCE}", "[refit]", f'law = "{law}"']
    for language in ("Python", "Go", "Rust"):
        lines += [
            f"[languages.{language}]",
            f'sources = ["{language}_train"]',
            f'valid_sources = ["{language}_valid"]',
            "max_epochs = 4",
            *([rust] if language == "Rust" else ["floor = 0.1", "bytes_per_token = 3.5"]),
        ]
    for name, weights in stages:
        given = f'"{weights}"' if isinstance(weights, str) else inline(weights)
        lines += ["[[stages]]", f'name = "{name}"', f"tokens = {tokens}", f"weights = {given}"]
    return "\n".join(lines) + "\n"


def inline(weights: dict[str, float]) -> str:
    return "{" + ", ".join(f"{name} = {weight}" for name, weight in weights.items()) + "}"


def command(run: str | None, *flags: str, ranks: int = 1, wrong: bool = False) -> list[str]:
    """The command line; without ``run``, Megatron's own data flags are among ``flags``.

    ``wrong`` goes through odd_launch.py.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = str(CHECKOUT / "pretrain_gpt.py")
    begin = [*torchrun, f"--nproc-per-node={ranks}"]
    if run is None:
        return [*begin, str(Path(__file__).with_name("plain_lm.py")), script, *FLAGS, *flags]
    own = ["--blendlaw-plan", "plan.toml", "--blendlaw-dir", run, "--blendlaw-cpu"]
    odd = [str(Path(__file__).with_name("odd_launch.py"))]
    launcher = odd if wrong else ["-m", "blendlaw_hooks.launch"]
    return [*begin, *launcher, script, *FLAGS, *flags, *own]


def start(
    folder: Path, line: list[str], said: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """A run whose output goes to ``said``: a pipe that nobody reads fills up and stops it."""
    return subprocess.Popen(
        line,
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdout=said,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def done(folder: Path, line: list[str], fails: bool = False, **environment: str) -> str:
    """The output of a run that ends by itself."""
    process = start(folder, line, **environment)
    output, _ = process.communicate(timeout=600)
    assert (process.returncode != 0) == fails, output[-6000:]
    return output


def reported(output: str, what: str = "lm loss:") -> dict[int, float]:
    """Megatron's own training losses by iteration."""
    found = re.findall(rf"iteration +(\d+)/.*?{what} (\S+)", output)
    return {int(step): float(loss) for step, loss in found}


def validated(output: str) -> list[float]:
    """Megatron's own validation losses, in order."""
    return [float(loss) for loss in re.findall(r"validation loss at .*?value: (\S+)", output)]

"""The flags that the tests use."""

from __future__ import annotations

import argparse
from typing import Any

WHOLE = (
    *("num-layers", "hidden-size", "num-attention-heads", "seq-length", "vocab-size"),
    *("micro-batch-size", "global-batch-size", "train-iters", "eval-interval", "eval-iters"),
    *("log-interval", "num-workers", "save-interval", "exit-interval", "lr-warmup-iters"),
    *("max-position-embeddings", "make-vocab-size-divisible-by"),
)
WORDS = ("save", "load", "tensorboard-dir", "tokenizer-type", "position-embedding-type")
WORDS += ("normalization", "lr-decay-style", "distributed-backend", "transformer-impl")
LISTS = ("data-path", "train-data-path", "valid-data-path", "phase-transition-iterations")


def parse() -> Any:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in WHOLE:
        parser.add_argument(f"--{name}", type=int)
    for name in WORDS:
        parser.add_argument(f"--{name}")
    for name in LISTS:
        parser.add_argument(f"--{name}", nargs="*")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--min-lr", type=float)
    parser.add_argument("--dataloader-type", default="single")
    parser.add_argument("--mock-data", action="store_true")
    args, others = parser.parse_known_args()  # modules' own flags: there is but one module here
    wrong = [each for each in others if each.startswith("--blendlaw")]
    assert not wrong, wrong
    args.iteration = args.curr_iteration = args.consumed_train_samples = 0
    return args

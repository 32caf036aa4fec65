"""Whether Megatron-LM's own parser takes command lines: its complaint of each, or None.

Reads ``[[ranks, {variable: value}, [flag, …]], …]`` as JSON from stdin, writes a list of as many.
Started by tests/stacks/test_launches.py with a checkout as argument.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import sys

from blendlaw_hooks import cpu

sys.path.insert(0, sys.argv[1])
cpu.install()

import torch  # noqa: E402
from megatron.core import num_microbatches_calculator as batches  # noqa: E402
from megatron.training import arguments  # noqa: E402

torch.cuda.get_device_properties().major = 9  # a Hopper GPU; what arguments.py asks for


def complaint(ranks: int, environment: dict[str, str], flags: list[str]) -> str | None:
    """What parsing, validation, the model's configuration and the batch's arithmetic raise."""
    os.environ |= environment | {"WORLD_SIZE": str(ranks), "RANK": "0", "LOCAL_RANK": "0"}
    sys.argv = ["pretrain_gpt.py", *flags, "--no-rope-fusion"]  # the one that asks for an engine
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            args = arguments.validate_args(arguments.parse_args())
            if hasattr(arguments, "core_transformer_config_from_args"):
                make = arguments.core_transformer_config_from_args
            else:  # since 0.20
                from megatron.training.utils import core_transformer_config_from_args as make
            make(copy.copy(args))
            batches.init_num_microbatches_calculator(
                0, None, args.global_batch_size, args.micro_batch_size, args.data_parallel_size
            )
    except SystemExit:
        return (said.getvalue().strip().splitlines() or ["it ended"])[-1]
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        batches.unset_num_microbatches_calculator()
    return None


print(json.dumps([complaint(*case) for case in json.load(sys.stdin)]))

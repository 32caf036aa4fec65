"""A rehearsal: Megatron on a machine without CUDA, through gloo.

For proxy runs, tests, and trying a whole job on a laptop; far too slow for more. ``install()``
replaces what is named below, once, before Megatron is imported; nothing is patched on disk, and
nothing at all unless it is called. Each function below is one patch: what stood in the way (files
of megatron-core 0.16.1, with which it is tested), and what now stands there.

Context parallelism, FP8 and fused kernels need Transformer Engine: they cannot be rehearsed.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch

CPU = torch.device("cpu")

# For pretrain_gpt.py, after the user's own: modules of plain torch, every fused kernel off.
FLAGS = [
    *("--distributed-backend", "gloo"),
    *("--transformer-impl", "local"),
    "--use-cpu-initialization",
    "--no-masked-softmax-fusion",
    "--no-bias-gelu-fusion",
    "--no-bias-dropout-fusion",
    "--no-bias-swiglu-fusion",
    "--no-rope-fusion",
    "--no-persist-layer-norm",
    "--no-gradient-accumulation-fusion",
]

# The same for a TransformerConfig of megatron.core. batch_p2p_sync waits for a CUDA stream.
CONFIG = dict.fromkeys(
    (
        "masked_softmax_fusion",
        "gradient_accumulation_fusion",
        "bias_dropout_fusion",
        "bias_activation_fusion",
        "apply_rope_fusion",
        "persist_layer_norm",
        "cross_entropy_loss_fusion",
        "batch_p2p_sync",
    ),
    False,
) | {"use_cpu_initialization": True}

_installed = False


def install() -> None:
    """Put every patch in place; a second call does nothing.

    Raises ValueError on a machine with a GPU, or if megatron.core was imported already (it keeps
    what it took from torch).
    """
    global _installed
    if _installed:
        return
    if torch.cuda.is_available() or torch.cuda.device_count():
        raise ValueError("the CPU rehearsal is for machines without a GPU, and this one has one")
    if "megatron.core" in sys.modules:
        raise ValueError("the CPU rehearsal must be installed before megatron.core is imported")
    _installed = True
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling takes longer than running
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")  # arguments.py asserts it with TP
    for patch in (*OF_TORCH, *OF_MEGATRON):
        patch()


def leave() -> NoReturn:
    """End the process at once: about one run in ten aborts in gloo's teardown, its work done.

    What would end with an ordinary exit (data loaders, writers of checkpoints) is ended first.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _is_cuda(device: object) -> bool:
    """Whether a ``device`` argument means CUDA; torch takes a bare number as a CUDA device."""
    if isinstance(device, int):
        return not isinstance(device, bool)
    return str(device).startswith("cuda")


def _give(value: object = None) -> Callable[..., Any]:
    """A new function that gives ``value`` whatever it is asked.

    New each time: torch.compile tells functions of torch apart by identity.
    """
    return lambda *args, **kwargs: value


def _put(place: object, value: object, *names: str) -> None:
    """Functions that give ``value`` in place of these."""
    for name in names:
        setattr(place, name, _give(value))


def engine() -> None:
    """optimizer/__init__.py:11, transformer_block.py:53 take Transformer Engine's, if installed.

    As on a cluster's login node. Its kernels have no other form, so it is as if it were not.
    """
    modules: dict[str, Any] = sys.modules
    modules["transformer_engine"] = None


def presence() -> None:
    """initialize.py:62 insists on CUDA; :319 makes no parallel groups without devices.

    There are as many devices as this machine has ranks. ``current_device()`` is passed on as a
    device (param_and_grad_buffer.py:806); properties are asked for in arguments.py:853.
    """
    properties = SimpleNamespace(
        major=8, minor=0, name="cpu", total_memory=1 << 34, multi_processor_count=1
    )
    _put(torch.cuda, True, "is_available")
    _put(torch.cuda, int(os.environ.get("LOCAL_WORLD_SIZE", 1)), "device_count")
    _put(torch.cuda, CPU, "current_device")
    _put(torch.cuda, None, "set_device")
    _put(torch.cuda, properties, "get_device_properties")
    _put(torch.cuda, (8, 0), "get_device_capability")
    _put(torch.cuda, "cpu", "get_device_name")


def memory() -> None:
    """training/utils.py:284 reports the device's memory: zeros."""
    _put(torch.cuda, 0, "memory_allocated", "max_memory_allocated", "device_memory_used")
    _put(torch.cuda, 0, "memory_reserved", "max_memory_reserved")
    _put(torch.cuda, defaultdict(int), "memory_stats")
    _put(torch.cuda, (0, 0), "mem_get_info")
    _put(torch.cuda, None, "empty_cache", "reset_peak_memory_stats")


class _Stream:
    """A stream or event on which nothing is ever under way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _give()


def streams() -> None:
    """p2p_communication.py:398 synchronizes; buffers and timers use streams, events, ranges.

    Work on a CPU is done when the call returns: there is nothing to wait for, and no graph is ever
    captured (torch's optimizers ask, where torch is a CUDA build).
    """
    cuda: Any = torch.cuda
    cuda.Stream = cuda.Event = _Stream
    _put(cuda, _Stream(), "current_stream", "default_stream")
    _put(cuda, contextlib.nullcontext(), "stream")
    _put(cuda, None, "synchronize", "set_stream")
    _put(cuda, False, "is_current_stream_capturing")
    if hasattr(torch, "accelerator"):  # asked by data loaders, whether to pin, and optimizers
        _put(torch.accelerator, False, "is_available")
        _put(torch.accelerator, _Stream(), "current_stream")
    _put(cuda.nvtx, None, "range_push", "range_pop")


def factories() -> None:
    """schedules.py:596, optimizer.py:907: ``torch.zeros(…, device="cuda")`` makes it on the CPU.

    Random numbers meant for the device come from a generator of their own: drawn from the CPU's,
    they would shift the initial weights, and differently by the number of ranks.
    """
    device_generator = torch.Generator().manual_seed(0)

    def on_cpu(make: Callable[..., Any], random: bool) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            if _is_cuda(kwargs.get("device")):
                kwargs["device"] = CPU
                if random:
                    kwargs.setdefault("generator", device_generator)
            return make(*args, **kwargs)

        return made

    plain = "tensor as_tensor empty zeros ones full arange linspace eye empty_strided"
    like = "empty_like zeros_like ones_like full_like rand_like randn_like"
    for name in f"{plain} {like}".split():
        setattr(torch, name, on_cpu(getattr(torch, name), random=False))
    for name in ("rand", "randn", "randint"):
        setattr(torch, name, on_cpu(getattr(torch, name), random=True))


def moves() -> None:
    """``.cuda()``, ``.to("cuda")`` and pinning, everywhere: the tensor is where it should be."""
    tensor: Any = torch.Tensor
    module: Any = torch.nn.Module
    tensor.cuda = lambda self, *args, **kwargs: self
    tensor.pin_memory = lambda self, *args, **kwargs: self
    module.cuda = lambda self, *args, **kwargs: self
    to = torch.Tensor.to

    @functools.wraps(to)
    def to_cpu(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args and _is_cuda(args[0]):
            args = (CPU, *args[1:])
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
        return to(self, *args, **kwargs)

    tensor.to = to_cpu


def random_state() -> None:
    """random.py:235: tensor-parallel ranks fork the device's generator for dropout and weights.

    The CPU's generator is the device's.
    """
    generator = torch.random.default_generator

    def seed(value: int) -> None:
        generator.manual_seed(int(value))

    for module in (torch.cuda, torch.cuda.random):
        cuda: Any = module
        cuda.get_rng_state = lambda device="cuda": torch.get_rng_state()
        cuda.set_rng_state = lambda state, device="cuda": torch.set_rng_state(state)
        cuda.manual_seed = cuda.manual_seed_all = seed
    cuda = torch.cuda
    cuda.default_generators = defaultdict(lambda: generator)
    cuda._lazy_init = _give()
    cuda._lazy_call = lambda call, **kwargs: call()


def type_names() -> None:
    """distrib_optimizer.py:420, clip_grads.py:167 take only ``torch.cuda.FloatTensor`` and such.

    Tensors say that they are.
    """
    type_of = torch.Tensor.type

    @functools.wraps(type_of)
    def named(self: torch.Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        result = type_of(self, dtype, *args, **kwargs)
        return result.replace("torch.", "torch.cuda.", 1) if dtype is None else result

    tensor: Any = torch.Tensor
    tensor.type = named


def gloo() -> None:
    """``--distributed-backend nccl`` is Megatron's default: gloo in its place."""
    distributed: Any = torch.distributed

    def by_gloo(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("backend") == "nccl":
                kwargs["backend"] = "gloo"
            kwargs.pop("device_id", None)
            return make(*("gloo" if arg == "nccl" else arg for arg in args), **kwargs)

        return made

    for name in ("init_process_group", "new_group"):
        setattr(distributed, name, by_gloo(getattr(distributed, name)))


def sequence_parallel_norm() -> None:
    """torch_norm.py:32 refuses ``--sequence-parallel`` for torch's norms, the only ones here.

    What is missing is the mark by which their gradients are summed over tensor-parallel ranks.
    """
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    make = WrappedTorchNorm.__new__

    def marked(cls: type, config: Any, *args: Any, **kwargs: Any) -> Any:
        plain = copy.copy(config)
        plain.sequence_parallel = False
        norm = make(cls, plain, *args, **kwargs)
        for parameter in norm.parameters():
            parameter.sequence_parallel = config.sequence_parallel
        return norm

    WrappedTorchNorm.__new__ = marked


def moe_router() -> None:
    """moe_utils.py:1192 asks whether a name is None that is not there without its engine."""
    from megatron.core.transformer.moe import moe_utils

    if not hasattr(moe_utils, "te_general_gemm"):
        moe_utils.te_general_gemm = None


def dataset_helpers() -> None:
    """initialize.py:130 runs ``make``: the checkout may be read-only, or the compiler missing.

    An installed megatron-core has the same functions compiled: those are taken, if there are any.
    """
    import megatron
    from megatron.core.datasets import utils

    name = "megatron.core.datasets.helpers_cpp"
    for folder in (*megatron.__path__, *(f"{entry}/megatron" for entry in sys.path)):
        for file in Path(folder, "core", "datasets").glob("helpers_cpp*.so"):
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is not None and spec.loader is not None:
                with contextlib.suppress(ImportError):  # of another Python
                    sys.modules[name] = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(sys.modules[name])
                    utils.compile_helpers = _give()
                    return


def legacy_kernels() -> None:
    """fused_kernels/__init__.py:17 asks nvcc for its version: there are no kernels to load."""
    with contextlib.suppress(ImportError):  # not in the wheel, and gone from later versions
        from megatron.legacy import fused_kernels

        fused_kernels.load = _give()


OF_TORCH = (engine, presence, memory, streams, factories, moves, random_state, type_names, gloo)
OF_MEGATRON = (sequence_parallel_norm, moe_router, dataset_helpers, legacy_kernels)

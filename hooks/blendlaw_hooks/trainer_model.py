"""The trainer's model: GPTModel in LLaMA's shape, its optimizer, its learning rate, one step of it.

Bound of Megatron (megatron-core 0.16.1): ``GPTModel`` and the layer specs of ``models.gpt``;
``TransformerConfig``, ``Float16Module``; ``DistributedDataParallel``, ``finalize_model_grads``;
``get_megatron_optimizer``, ``OptimizerParamScheduler``; ``get_forward_backward_func``;
``sharded_state_dict`` and ``apply_factories``, by which a weight's name and place are known.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import Float16Module

from blendlaw.errors import InputError
from blendlaw.plan import Plan
from blendlaw.precision import RECIPES
from blendlaw.trainer_plan import Shape, Trainer
from blendlaw_hooks import cpu
from blendlaw_hooks.attention import CausalAttention

SPREAD = 0.02
"""Standard deviation of initial weights; layers' outputs have it over the root of their number."""

OUTPUTS = ("linear_proj.weight", "linear_fc2.weight")


@dataclass(frozen=True)
class Model:
    """A model that trains: ``bare``, and wrapped for its precision and data parallelism."""

    bare: Any
    module: Any
    optimizer: Any
    scheduler: Any
    length: int
    micro: int

    def step(self, forward_step: Callable[..., Any], data: Any, microbatches: int) -> bool:
        """One training step; False if the optimizer refused it (an overflow)."""
        self.module.zero_grad_buffer()
        self.optimizer.zero_grad()
        self._run(forward_step, data, microbatches, forward_only=False)
        self.scheduler.step(1)  # the first step has the first part of the warmup, not nothing
        taken: bool = self.optimizer.step()[0]
        return taken

    @torch.no_grad()
    def evaluate(self, forward_step: Callable[..., Any], data: Any, microbatches: int) -> None:
        """Losses of microbatches, which the forward step counts."""
        self.module.eval()
        self._run(forward_step, data, microbatches, forward_only=True)
        self.module.train()

    def _run(self, forward_step: Any, data: Any, microbatches: int, forward_only: bool) -> None:
        get_forward_backward_func()(
            forward_step_func=forward_step,
            data_iterator=data,
            model=self.module,
            num_microbatches=microbatches,
            seq_length=self.length,
            micro_batch_size=self.micro,
            forward_only=forward_only,
        )


def build_model(plan: Plan, shape: Shape, device: torch.device, steps: int) -> Model:
    """The model of ``plan``, with initial weights, for a run of ``steps`` steps."""
    trainer, length = plan.trainer, plan.run.sequence_length
    engine = device.type == "cuda" and importlib.util.find_spec("transformer_engine") is not None
    config = _config(trainer, shape, length, device, engine)
    bare: Any = GPTModel(
        config,
        get_gpt_layer_with_transformer_engine_spec() if engine else _local_spec(),
        shape.vocabulary,
        length,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        share_embeddings_and_output_weights=False,
        position_embedding_type="rope",
    )
    initialise(bare, trainer.seed, shape.layers)
    bare.to(device)
    module = DistributedDataParallel(
        config,
        DistributedDataParallelConfig(grad_reduce_in_fp32=config.bf16),
        Float16Module(config, bare) if config.bf16 else bare,
    )
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam",
            lr=trainer.learning_rate,
            min_lr=trainer.decay_to * trainer.learning_rate,
            weight_decay=trainer.weight_decay,
            adam_beta1=0.9,
            adam_beta2=0.95,
            clip_grad=trainer.clip,
            bf16=config.bf16,
            params_dtype=config.params_dtype,
        ),
        [module],
    )
    config.grad_scale_func = optimizer.scale_loss
    config.finalize_model_grads_func = finalize_model_grads
    rate = scheduler(optimizer, trainer, steps)
    return Model(bare, module, optimizer, rate, length, trainer.micro_batch)


def _local_spec() -> Any:
    spec = get_gpt_layer_local_spec(normalization="RMSNorm")
    spec.submodules.self_attention.submodules.core_attention = CausalAttention
    return spec


def _config(trainer: Trainer, shape: Shape, length: int, device: torch.device, engine: bool) -> Any:
    if trainer.precision == "fp8" and not engine:
        problem = "needs a GPU with Transformer Engine: take bf16 here"
        raise InputError(problem, column="trainer.precision", value="fp8")
    dtype = torch.float32 if trainer.precision == "fp32" else torch.bfloat16
    return TransformerConfig(
        num_layers=shape.layers,
        hidden_size=shape.hidden,
        num_attention_heads=shape.heads,
        ffn_hidden_size=shape.ffn,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        normalization="RMSNorm",
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        tensor_model_parallel_size=trainer.tensor_parallel,
        pipeline_model_parallel_size=trainer.pipeline_parallel,
        perform_initialization=False,
        **(cpu.CONFIG if device.type == "cpu" else {}),
        **(fp8_keys(trainer, shape, length) if trainer.precision == "fp8" else {}),
    )


def fp8_keys(trainer: Trainer, shape: Shape, length: int) -> dict[str, Any]:
    """TransformerConfig's keys of an FP8 recipe; InputError for sizes that it cannot multiply."""
    recipe = RECIPES[trainer.fp8_recipe]
    sizes = {
        "hidden": shape.hidden // trainer.tensor_parallel,
        "ffn": shape.ffn // trainer.tensor_parallel,
        "micro_batch": trainer.micro_batch * length,  # in tokens
    }
    for name, size in sizes.items():
        if size % recipe.multiple:
            problem = f"on a rank it comes to {size}: FP8 needs a multiple of {recipe.multiple}"
            raise InputError(problem, column=f"trainer.{name}")
    keys = {f"fp8_{key}": value for key, value in recipe.fp8.items()}
    return {"fp8": keys.pop("fp8_format"), **keys}


@torch.no_grad()
def initialise(module: Any, seed: int, layers: int) -> None:
    """Initial weights that follow from ``seed`` and a weight's name and place alone.

    So they are the same under every layout of ranks, of which Megatron's own are not: it seeds
    each pipeline stage apart.
    """
    placed = module.sharded_state_dict()
    apply_factories(placed)  # SwiGLU's two matrices, which are kept as one
    for sharded in nested_values(placed):
        if not isinstance(sharded, ShardedTensor) or sharded.data is None:
            continue
        if "norm" in sharded.key:
            sharded.data.fill_(1.0)
            continue
        spread = SPREAD
        if sharded.key.endswith(OUTPUTS):
            spread /= math.sqrt(2 * layers)
        ahead = sharded.prepend_axis_num  # the layer, where layers are kept as one
        offset = sharded.global_offset
        name = f"{seed} {sharded.key} {list(offset[:ahead])}"
        random = torch.Generator().manual_seed(crc32(name.encode()))
        whole = torch.randn(sharded.global_shape[ahead:], generator=random) * spread
        place = [
            slice(start, start + size)
            for start, size in zip(offset[ahead:], sharded.local_shape, strict=True)
        ]
        sharded.data.copy_(whole[tuple(place)])


def scheduler(optimizer: Any, trainer: Trainer, steps: int) -> Any:
    """Megatron's learning rate (and weight decay) over ``steps`` steps."""
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=trainer.learning_rate,
        min_lr=trainer.decay_to * trainer.learning_rate,
        lr_warmup_steps=trainer.rising(steps),
        lr_decay_steps=steps,
        lr_decay_style="WSD" if trainer.schedule == "wsd" else trainer.schedule,
        start_wd=trainer.weight_decay,
        end_wd=trainer.weight_decay,
        wd_incr_steps=steps,
        wd_incr_style="constant",
        wsd_decay_steps=trainer.falling(steps),
        lr_wsd_decay_style="linear",
    )

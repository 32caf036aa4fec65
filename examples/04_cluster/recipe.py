"""Both launches as a recipe of Megatron-Bridge: torchrun … recipe.py 1_5b (or 7b)."""

from __future__ import annotations

import sys

import torch
from megatron.bridge.models.gpt_provider import GPTModelProvider
from megatron.bridge.training.config import (
    CheckpointConfig,
    ConfigContainer,
    DistributedDataParallelConfig,
    GPTDatasetConfig,
    LoggerConfig,
    OptimizerConfig,
    SchedulerConfig,
    TokenizerConfig,
    TrainingConfig,
    ValidationConfig,
)
from megatron.bridge.training.gpt_step import forward_step
from megatron.bridge.training.mixed_precision import get_mixed_precision_config

from blendlaw_hooks.bridge import pretrain  # was: from megatron.bridge.training.pretrain

SEQUENCE = 8192
SIZES = {
    "1_5b": {
        "model": {"num_layers": 28, "hidden_size": 2048, "ffn_hidden_size": 5632},
        "heads": 16,
        "pipeline": 1,
        "train": {"train_iters": 83446, "global_batch_size": 512, "micro_batch_size": 2},
        "rate": 6e-4,
        "falls": 8000,
    },
    "7b": {
        "model": {"num_layers": 32, "hidden_size": 4096, "ffn_hidden_size": 13312},
        "heads": 32,
        "pipeline": 2,
        "train": {"train_iters": 119209, "global_batch_size": 1024, "micro_batch_size": 1},
        "rate": 3e-4,
        "falls": 12000,
    },
}


def recipe(name: str) -> ConfigContainer:
    """What {name}.slurm says in flags; its dataset names no data, since the plan does."""
    size = SIZES[name]
    precision = get_mixed_precision_config("bf16_with_fp8_subchannel_scaling_mixed")
    precision.fp8 = "e4m3"  # a scale for 128 values needs no wider range for gradients
    return ConfigContainer(
        model=GPTModelProvider(
            **size["model"],
            num_attention_heads=size["heads"],
            num_query_groups=8,
            seq_length=SEQUENCE,
            position_embedding_type="rope",
            rotary_base=500000,
            gated_linear_unit=True,
            activation_func=torch.nn.functional.silu,
            add_bias_linear=False,
            normalization="RMSNorm",
            hidden_dropout=0.0,
            attention_dropout=0.0,
            share_embeddings_and_output_weights=False,
            vocab_size=49152,
            tensor_model_parallel_size=2,
            pipeline_model_parallel_size=size["pipeline"],
            pipeline_dtype=torch.bfloat16,
            sequence_parallel=True,
        ),
        train=TrainingConfig(**size["train"], exit_duration_in_mins=1420),
        validation=ValidationConfig(eval_interval=1000, eval_iters=16),
        optimizer=OptimizerConfig(
            optimizer="adam",
            lr=size["rate"],
            min_lr=size["rate"] / 10,
            weight_decay=0.1,
            adam_beta2=0.95,
            clip_grad=1.0,
            bf16=True,
            use_distributed_optimizer=True,
        ),
        scheduler=SchedulerConfig(
            lr_decay_style="WSD",
            lr_wsd_decay_style="linear",
            lr_wsd_decay_iters=size["falls"],
            lr_warmup_iters=2000,
            lr_decay_iters=size["train"]["train_iters"],
            start_weight_decay=0.1,
            end_weight_decay=0.1,
            weight_decay_incr_style="constant",
        ),
        ddp=DistributedDataParallelConfig(
            use_distributed_optimizer=True,
            overlap_grad_reduce=True,
            overlap_param_gather=True,
            grad_reduce_in_fp32=True,
        ),
        dataset=GPTDatasetConfig(
            seq_length=SEQUENCE,
            random_seed=1234,
            reset_attention_mask=False,
            reset_position_ids=False,
            eod_mask_loss=False,
            dataloader_type="single",
            num_workers=4,
            path_to_cache="data/cache",
        ),
        logger=LoggerConfig(log_interval=50, tensorboard_dir=f"{name}/tensorboard"),
        tokenizer=TokenizerConfig(tokenizer_type="NullTokenizer", vocab_size=49151),
        checkpoint=CheckpointConfig(
            save=f"{name}/checkpoints", load=f"{name}/checkpoints", save_interval=1000
        ),
        mixed_precision=precision,
    )


if __name__ == "__main__":
    chosen = sys.argv[1]
    pretrain(recipe(chosen), forward_step, plan=f"{chosen}.toml", folder=f"{chosen}/run")

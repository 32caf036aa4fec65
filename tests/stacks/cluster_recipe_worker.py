"""The recipe of examples/04_cluster as Megatron-Bridge takes it on so many ranks, as JSON.

Started by test_cluster_recipe.py with the size and the ranks. No process group is made.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

from bridge_recipe import import_bridge

from blendlaw.plan import read_plan
from blendlaw_hooks.refusals import refuse_bridge

FOLDER = Path(__file__).parents[2] / "examples" / "04_cluster"


def main(size: str, ranks: str) -> None:
    os.environ |= {"WORLD_SIZE": ranks, "RANK": "0", "LOCAL_RANK": "0"}
    import_bridge()
    from megatron.bridge.training.config import runtime_config_update

    config = runpy.run_path(str(FOLDER / "recipe.py"), run_name="recipe")["recipe"](size)
    refuse_bridge(config, read_plan(FOLDER / f"{size}.toml"))
    runtime_config_update(config)
    model, train, schedule = config.model, config.train, config.scheduler
    found = {
        "num-layers": model.num_layers,
        "hidden-size": model.hidden_size,
        "ffn-hidden-size": model.ffn_hidden_size,
        "num-attention-heads": model.num_attention_heads,
        "num-query-groups": model.num_query_groups,
        "seq-length": config.dataset.sequence_length,
        "rotary-base": model.rotary_base,
        "tensor-model-parallel-size": model.tensor_model_parallel_size,
        "pipeline-model-parallel-size": model.pipeline_model_parallel_size,
        "fp8-format": model.fp8,
        "fp8-recipe": model.fp8_recipe,
        "micro-batch-size": train.micro_batch_size,
        "global-batch-size": train.global_batch_size,
        "train-iters": train.train_iters,
        "exit-duration-in-mins": train.exit_duration_in_mins,
        "lr": config.optimizer.lr,
        "min-lr": config.optimizer.min_lr,
        "weight-decay": config.optimizer.weight_decay,
        "adam-beta2": config.optimizer.adam_beta2,
        "lr-decay-style": schedule.lr_decay_style,
        "lr-warmup-iters": schedule.lr_warmup_iters,
        "lr-wsd-decay-iters": schedule.lr_wsd_decay_iters,
        "lr-wsd-decay-style": schedule.lr_wsd_decay_style,
        "vocab-size": config.tokenizer.vocab_size,
        "log-interval": config.logger.log_interval,
        "save-interval": config.checkpoint.save_interval,
        "eval-interval": config.validation.eval_interval,
        "data-cache-path": config.dataset.path_to_cache,
    }
    on = {
        "sequence-parallel": model.sequence_parallel,
        "use-distributed-optimizer": config.optimizer.use_distributed_optimizer,
        "overlap-param-gather": config.ddp.overlap_param_gather,
        "overlap-grad-reduce": config.ddp.overlap_grad_reduce,
        "bf16": model.bf16,
        "disable-bias-linear": not model.add_bias_linear,
        "untie-embeddings-and-output-weights": not model.share_embeddings_and_output_weights,
    }
    told = {"values": found, "on": on, "data parallel": config.data_parallel_size}
    sys.stdout.write("\n" + json.dumps(told) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

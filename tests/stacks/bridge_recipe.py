"""A recipe of Megatron-Bridge for a tiny GPT on the CPU, with blendlaw's two lines or without.

    bridge_recipe.py SECTION.FIELD=VALUE …            plan.toml in the folder run
    bridge_recipe.py --plain BLEND SECTION.FIELD=VALUE …   Bridge's own pretrain, its blend as JSON
    bridge_recipe.py --refused                        what is said to configs that cannot do

What stands in Bridge's way on a CPU, beside what cpu.py patches of torch and megatron.core: its
adapters for fine-tuning import Transformer Engine (0.3.1: peft/lora.py, peft/lora_layers.py), and
importing anything of Bridge imports those. They find empty classes. And megatron.core 0.20 refuses
nvidia-resiliency-ext before 0.6, where PyPI ends at 0.4: it is hidden as far as core asks for it,
which then writes checkpoints by itself. Bridge's main is for Python 3.12, though on 3.11 it lacks
one name only.
"""

from __future__ import annotations

import ast
import json
import sys
import typing
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import typing_extensions

from blendlaw.errors import InputError
from blendlaw_hooks import cpu

SEQUENCE, BATCH, STEPS = 64, 16, 60
ENGINE = "transformer_engine"


class Empty(ModuleType):
    """A module with whatever is asked of it: modules in small letters, else classes."""

    __path__: list[str] = []  # noqa: RUF012 -- as modules have it
    __version__ = "2.10.0"  # megatron.core asks for it, to refuse old ones

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Empty(name) if name.islower() else type(name, (torch.nn.Module,), {})


def import_bridge() -> None:
    """Import Bridge, and all of megatron.core that looks for an engine before it."""
    if sys.version_info < (3, 12):
        typing.override = typing_extensions.override
    modules: dict[str, Any] = sys.modules
    modules["nvidia_resiliency_ext.checkpointing.async_ckpt"] = None
    cpu.install()
    import megatron.core.extensions.transformer_engine
    import megatron.core.models.gpt.gpt_layer_specs
    import megatron.core.optimizer
    import megatron.core.transformer.transformer_block

    modules[ENGINE] = Empty(ENGINE)
    modules[ENGINE].pytorch = modules[f"{ENGINE}.pytorch"] = Empty(f"{ENGINE}.pytorch")
    try:
        import megatron.bridge.training.pretrain  # noqa: F401
    finally:
        del modules[f"{ENGINE}.pytorch"]
        modules[ENGINE] = None


def recipe() -> Any:
    """A ConfigContainer as a recipe makes it; its GPTDatasetConfig names no data."""
    from megatron.bridge.models.gpt_provider import GPTModelProvider, local_layer_spec
    from megatron.bridge.training import config as of
    from megatron.bridge.training.tokenizers.config import TokenizerConfig

    training = {"micro_batch_size": 4, "global_batch_size": BATCH, "train_iters": STEPS}
    evaluation = {"eval_interval": 10, "eval_iters": 2}
    further = {}
    if hasattr(of, "ValidationConfig"):  # until 0.3 a part of TrainingConfig
        further["validation"] = of.ValidationConfig(**evaluation)
    else:
        training |= evaluation
    return of.ConfigContainer(
        train=of.TrainingConfig(**training),
        model=GPTModelProvider(
            num_layers=2,
            hidden_size=32,
            ffn_hidden_size=64,
            num_attention_heads=4,
            seq_length=SEQUENCE,
            position_embedding_type="rope",
            gated_linear_unit=True,
            activation_func=torch.nn.functional.silu,
            add_bias_linear=False,
            normalization="RMSNorm",
            hidden_dropout=0.0,
            attention_dropout=0.0,
            transformer_layer_spec=local_layer_spec,
            vocab_size=64,
            pipeline_dtype=torch.float32,
            **cpu.CONFIG,
        ),
        optimizer=of.OptimizerConfig(optimizer="adam", lr=3e-3, min_lr=1e-3, clip_grad=1.0),
        scheduler=of.SchedulerConfig(
            lr_decay_style="cosine",
            lr_warmup_iters=5,
            lr_decay_iters=STEPS,
            start_weight_decay=0.01,
            end_weight_decay=0.01,
        ),
        dataset=of.GPTDatasetConfig(
            seq_length=SEQUENCE,
            random_seed=1234,
            reset_attention_mask=False,
            reset_position_ids=False,
            eod_mask_loss=False,
            dataloader_type="single",
            num_workers=0,
            split=None,
        ),
        logger=of.LoggerConfig(log_interval=5),
        tokenizer=TokenizerConfig(tokenizer_type="NullTokenizer", vocab_size=63),
        checkpoint=of.CheckpointConfig(async_save=False),
        dist=of.DistributedInitConfig(distributed_backend="gloo"),
        **further,
    )


def put(config: Any, settings: list[str]) -> None:
    """``section.field=value`` each, the value as Python writes it, or text."""
    for setting in settings:
        where, _, text = setting.partition("=")
        section, field = where.split(".")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        part = getattr(config, section)
        assert hasattr(part, field), where
        setattr(part, field, value)


def mock(config: Any) -> None:
    from megatron.bridge.training.config import MockGPTDatasetConfig

    settings = {"reset_attention_mask": False, "reset_position_ids": False, "eod_mask_loss": False}
    config.dataset = MockGPTDatasetConfig(seq_length=SEQUENCE, random_seed=1234, **settings)


CHANGES: dict[str, Callable[[Any], None]] = {
    "mock": mock,
    "cyclic": lambda config: put(config, ["dataset.dataloader_type=cyclic"]),
    "external": lambda config: put(config, ["dataset.dataloader_type=external"]),
    "blend": lambda config: put(config, ["dataset.blend=(['Go_train'], None)"]),
    "short": lambda config: put(config, ["dataset.seq_length=32"]),
    "long": lambda config: put(config, ["model.seq_length=128"]),
    "graph": lambda config: put(
        config, ["model.cuda_graph_impl=local", "model.cuda_graph_scope=['full_iteration']"]
    ),
    "groups": lambda config: put(config, ["dist.use_decentralized_pg=True"]),
}


def main(argv: list[str]) -> None:
    import_bridge()
    from megatron.bridge.training.gpt_step import forward_step

    if argv[:1] == ["--plain"]:
        from megatron.bridge.training.pretrain import pretrain as plain

        config = recipe()
        config.dataset.blend_per_split = json.loads(argv[1])
        put(config, argv[2:])
        plain(config, forward_step)
        return

    from blendlaw_hooks.bridge import pretrain

    if argv[:1] == ["--refused"]:
        for name, change in CHANGES.items():
            config = recipe()
            change(config)
            try:
                pretrain(config, forward_step, plan="plan.toml", folder="run")
            except InputError as error:
                print(f"REFUSED {name}: {error}")
        return
    config = recipe()
    put(config, argv)
    pretrain(config, forward_step, plan="plan.toml", folder="run")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SystemExit as ended:  # at an exit_interval
        if ended.code:
            raise
    cpu.leave()

"""One rank of a small GPT under torchrun: ``worker.py OUT TP PP VPP SP``.

Three training steps on synthetic samples, the second of them replayed by Megatron's rerun state
machine, the third with a language for each token; then a validation. The last rank writes what was
collected and what Megatron's own loss function reported. A single rank also writes an oracle: each
sample alone through the model, its language looked up by its index.
"""

# ruff: noqa: E402 -- the rehearsal comes before Megatron

from __future__ import annotations

import json
import sys
from collections import defaultdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from zlib import crc32

from blendlaw_hooks import cpu

cpu.install()

import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedTensor
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.rerun_state_machine import (
    RerunDataIterator,
    RerunMode,
    get_rerun_state_machine,
    initialize_rerun_state_machine,
)
from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
from megatron.core.transformer import TransformerConfig

from blendlaw_hooks.language_loss import LanguageLoss

LANGUAGES = ["Python", "Go", "Rust"]
OF_DATASET, OF_VALID = [0, 1, 1, 2], [2, 0, 1, 1]
SEQUENCE, VOCABULARY, MICRO, BATCH, STEPS = 16, 64, 2, 8, 3
PER_TOKEN, REPLAYED, VALIDATION = 2, 1, STEPS


def sample(index: int) -> dict[str, torch.Tensor]:
    """Sample ``index`` of the run; a tenth of its tokens are masked."""
    random = torch.Generator().manual_seed(index)
    tokens = torch.randint(0, VOCABULARY, (SEQUENCE + 1,), generator=random)
    found = {
        "tokens": tokens[:-1],
        "labels": tokens[1:],
        "loss_mask": (torch.rand(SEQUENCE, generator=random) > 0.1).float(),
        "position_ids": torch.arange(SEQUENCE),
    }
    if index // BATCH == PER_TOKEN:
        found["language_id"] = (torch.arange(SEQUENCE) * 3 // SEQUENCE + index) % 3
        found["language_id"][found["loss_mask"] == 0] = -1
    else:
        found["dataset_id"] = torch.tensor(index * 7 % 4, dtype=torch.int16)
    return found


def batches():
    """This rank's microbatches, in the order of Megatron's sampler."""
    rank, size = (
        parallel_state.get_data_parallel_rank(),
        parallel_state.get_data_parallel_world_size(),
    )
    for first in range(rank * MICRO, (STEPS + 1) * BATCH, size * MICRO):
        samples = [sample(index) for index in range(first, first + MICRO)]
        yield {name: torch.stack([each[name] for each in samples]) for name in samples[0]}


def fill(chunk: torch.nn.Module) -> None:
    """Weights that depend on a parameter's name and place only, not on the layout."""
    for sharded in chunk.sharded_state_dict().values():
        if isinstance(sharded, ShardedTensor):
            random = torch.Generator().manual_seed(crc32(sharded.key.encode()))
            full = torch.randn(sharded.global_shape, generator=random) * 0.1
            ahead = sharded.prepend_axis_num
            place = [*sharded.global_offset[:ahead]]
            for start, length in zip(
                sharded.global_offset[ahead:], sharded.local_shape, strict=True
            ):
                place.append(slice(start, start + length))
            norm = "norm" in sharded.key and sharded.key.endswith("weight")
            sharded.data.data.copy_(full[tuple(place)] + norm)


def loss_func(loss_mask: torch.Tensor, losses: torch.Tensor):
    mask = loss_mask.view(-1)
    loss = torch.sum(losses.view(-1).float() * mask)
    tokens = mask.sum().detach().to(torch.int)
    get_rerun_state_machine().validate_result(
        loss, rejection_func=lambda _: STATE["step"] == REPLAYED, message="replay", fatal=False
    )
    STATE["calls"] += 1
    return loss, tokens, {"lm loss": torch.cat([loss.detach().view(1), tokens.view(1)])}


STATE = {"step": 0, "calls": 0}
SHARED = ("tokens", "labels", "loss_mask", "position_ids")


def forward_step(data_iterator, model):
    """As pretrain_gpt.py: the first tensor-parallel rank reads and broadcasts."""
    if parallel_state.get_tensor_model_parallel_rank() == 0:
        batch = next(data_iterator)
        assert set(batch) == set(SHARED)
    else:
        assert data_iterator is None
        batch = {name: torch.empty(MICRO, SEQUENCE, dtype=torch.long) for name in SHARED}
        batch["loss_mask"] = batch["loss_mask"].float()
    for name in SHARED:
        torch.distributed.broadcast(
            batch[name],
            parallel_state.get_tensor_model_parallel_src_rank(),
            group=parallel_state.get_tensor_model_parallel_group(),
        )
    mask = torch.tril(torch.ones(1, 1, SEQUENCE, SEQUENCE)) < 0.5
    output = model(batch["tokens"], batch["position_ids"], mask, labels=batch["labels"])
    return output, partial(loss_func, batch["loss_mask"])


def oracle(model: torch.nn.Module, step: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    mask = torch.tril(torch.ones(1, 1, SEQUENCE, SEQUENCE)) < 0.5
    for index in range(step * BATCH, (step + 1) * BATCH):
        one = sample(index)
        tokens, positions, labels = (
            one[name][None] for name in ("tokens", "position_ids", "labels")
        )
        with torch.no_grad():
            losses = model(tokens, positions, mask, labels=labels)[0].double()
        of_dataset = OF_VALID if step == VALIDATION else OF_DATASET
        for at in range(SEQUENCE):
            if one["loss_mask"][at]:
                if step == PER_TOKEN:
                    language = LANGUAGES[(at * 3 // SEQUENCE + index) % 3]
                else:
                    language = LANGUAGES[of_dataset[index * 7 % 4]]
                found[language][0] += losses[at].item()
                found[language][1] += 1
    return {language: [total / n, n] for language, (total, n) in found.items()}


def main(out: Path, tensor: int, pipeline: int, virtual: int, sequence: int) -> None:
    torch.distributed.init_process_group("nccl", timeout=timedelta(seconds=60))
    parallel_state.initialize_model_parallel(tensor, pipeline, virtual if virtual > 1 else None)
    model_parallel_cuda_manual_seed(1)
    overlap = {"overlap_p2p_comm": True, "batch_p2p_comm": False} if virtual > 1 else {}
    config = TransformerConfig(
        num_layers=4,
        hidden_size=32,
        num_attention_heads=4,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
        virtual_pipeline_model_parallel_size=virtual if virtual > 1 else None,
        sequence_parallel=bool(sequence),
        pipeline_dtype=torch.float32,
        **cpu.CONFIG,
        **overlap,
    )
    chunks = []
    for stage in range(virtual):
        stage_of = {"vp_stage": stage} if virtual > 1 else {}
        chunk = GPTModel(
            config,
            get_gpt_layer_local_spec(),
            VOCABULARY,
            SEQUENCE,
            pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, **stage_of),
            post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, **stage_of),
            share_embeddings_and_output_weights=False,
            **stage_of,
        )
        fill(chunk)
        chunks.append(DistributedDataParallel(config, DistributedDataParallelConfig(), chunk))
    optimizer = get_megatron_optimizer(OptimizerConfig(optimizer="adam", lr=1e-2), chunks)
    config.grad_scale_func = optimizer.scale_loss
    config.finalize_model_grads_func = finalize_model_grads

    initialize_rerun_state_machine(mode=RerunMode.VALIDATE_RESULTS)
    machine = get_rerun_state_machine()
    measured = LanguageLoss(LANGUAGES, OF_DATASET, "cpu", of_valid_dataset=OF_VALID)
    measured.follow_reruns(machine)
    counted = measured.wrap_forward_step(forward_step)
    reads = parallel_state.get_tensor_model_parallel_rank() == 0
    data = [RerunDataIterator(batches()) if reads else None for _ in chunks]
    micro = BATCH // MICRO // parallel_state.get_data_parallel_world_size()
    schedule = partial(
        get_forward_backward_func(),
        forward_step_func=counted,
        data_iterator=data if virtual > 1 else data[0],
        model=chunks if virtual > 1 else chunks[0],
        num_microbatches=micro,
        seq_length=SEQUENCE,
        micro_batch_size=MICRO,
    )
    written = []
    for step in range(STEPS + 1):
        STATE.update(step=step, calls=0)
        record = {}
        if torch.distributed.get_world_size() == 1:
            record["oracle"] = oracle(chunks[0], step)
        if step < STEPS:
            while machine.should_run_forward_backward(data):
                for chunk in chunks:
                    chunk.zero_grad_buffer()
                optimizer.zero_grad()
                reported = schedule(forward_only=False)
            assert machine.should_checkpoint_and_exit() == (False, False, 0)
            assert optimizer.step()[0]
        else:
            machine.set_mode(RerunMode.DISABLED)
            for chunk in chunks:
                chunk.eval()
            with torch.no_grad():
                reported = schedule(forward_only=True)
        collected = measured.collect("train" if step < STEPS else "valid")
        assert measured.collect("train") == {}, "collected once"
        if parallel_state.is_pipeline_last_stage(ignore_virtual=True):
            assert STATE["calls"] == micro * (2 if step == REPLAYED else 1)
            total = torch.stack([each["lm loss"] for each in reported]).sum(0)
            torch.distributed.all_reduce(total, group=parallel_state.get_data_parallel_group())
            record |= {"collected": collected, "reported": total.tolist()}
            written.append(record)
    if torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
        out.write_text(json.dumps(written))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

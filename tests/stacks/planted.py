"""A clean launch script, and mistakes to plant in it: for the lint, and for Megatron itself."""

from __future__ import annotations

from dataclasses import dataclass

SCRIPT = """\
#!/bin/bash
#SBATCH --nodes=2
# Trains a model of 1.5B parameters on two nodes of eight H800.
export CUDA_DEVICE_MAX_CONNECTIONS=1
TP=2; PP=2
SEQUENCE=${SEQUENCE:-4096}
NODES=$SLURM_NNODES

MODEL_ARGS=(
    --num-layers 24   # twelve a stage
    --hidden-size 2048
    --ffn-hidden-size 5632
    --num-attention-heads 16
    --group-query-attention
    --num-query-groups 4
    --seq-length $SEQUENCE
    --max-position-embeddings $SEQUENCE
    --position-embedding-type rope
    --swiglu --disable-bias-linear --normalization RMSNorm
    --tokenizer-type NullTokenizer --vocab-size 32000
)
PRECISION="--bf16 --fp8-format hybrid --fp8-recipe delayed \\
    --fp8-amax-history-len 1024 --fp8-amax-compute-algo max"
if [[ -n "$PRECISION" ]]; then
    PRECISION+=" --fp8-param-gather"
fi

torchrun --nproc-per-node 8 --nnodes $NODES \\
    -m blendlaw_hooks.launch pretrain_gpt.py \\
    "${MODEL_ARGS[@]}" $PRECISION \\
    --tensor-model-parallel-size $TP --pipeline-model-parallel-size $PP \\
    --context-parallel-size 2 --sequence-parallel \\
    --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather \\
    --micro-batch-size 2 --global-batch-size $((8 * 16)) \\
    --train-iters 20000 --lr 3e-4 --min-lr 3e-5 --lr-decay-style cosine --lr-warmup-iters 200 \\
    --eval-interval 500 --eval-iters 16 --save checkpoints --save-interval 500 \\
    --eod-mask-loss --blendlaw-plan plan.toml --blendlaw-dir run
"""

PLAN = """
[run]
params = 1.5e9
tokens = 10485760000
sequence_length = 4096

[languages.Python]
sources = ["py"]
valid_sources = ["py_valid"]
unique_tokens = 2e10
[languages.Go]
sources = ["go"]
unique_tokens = 2e10

[[stages]]
name = "first"
tokens = 5242880000
weights = "uniform"
[[stages]]
name = "second"
tokens = 5242880000
weights = "uniform"

[pairs]
sources = ["pairs"]
valid_sources = ["pairs_valid"]
"""


@dataclass(frozen=True)
class Mistake:
    """``old`` becomes ``new``: then ``flag`` is found, with ``change``. Who refuses it is ``by``.

    ``by`` is Megatron (when it reads its arguments), ranks (Megatron, when it groups them), engine
    (Transformer Engine, when a matrix is multiplied), launcher (blendlaw's), or nobody: it would
    train, but not as meant.
    """

    what: str
    old: str
    new: str
    flag: str
    change: str
    by: str = "Megatron"


END = "--blendlaw-dir run"
MISTAKES = [
    Mistake("too many ranks", "PP=2", "PP=3", "--tensor-model-parallel-size", "start 24 ranks"),
    Mistake("layers in no stage", "--num-layers 24", "--num-layers 25", "--num-layers", "26"),
    Mistake(
        "heads that TP does not divide",
        "--num-attention-heads 16",
        "--num-attention-heads 15 --kv-channels 128",
        "--num-attention-heads",
        "set --tensor-model-parallel-size 1",
    ),
    Mistake(
        "groups that TP does not divide",
        "--num-query-groups 4",
        "--num-query-groups 3",
        "--num-query-groups",
        "set --num-query-groups 4",
    ),
    Mistake(
        "a hidden size that the heads do not divide",
        "--hidden-size 2048",
        "--hidden-size 2040",
        "--hidden-size",
        "set --hidden-size 2048",
    ),
    Mistake(
        "a batch of no whole microbatches",
        "$((8 * 16))",
        "$((8 * 16 + 2))",
        "--global-batch-size",
        "set --global-batch-size 132",
    ),
    Mistake(
        "a sequence that CP does not divide",
        "SEQUENCE:-4096",
        "SEQUENCE:-4098",
        "--seq-length",
        "set --seq-length 4100",
    ),
    Mistake(
        "fewer positions than tokens",
        "--max-position-embeddings $SEQUENCE",
        "--max-position-embeddings 2048",
        "--max-position-embeddings",
        "set --max-position-embeddings 4096",
    ),
    Mistake(
        "sequence parallel without TP",
        "TP=2",
        "TP=1",
        "--sequence-parallel",
        "leave it out",
        by="nobody",
    ),
    Mistake(
        "overlap without sequence parallel",
        "--sequence-parallel",
        "--tp-comm-overlap",
        "--tp-comm-overlap",
        "add --sequence-parallel",
    ),
    Mistake(
        "interleaved stages of unequal chunks",
        END,
        f"{END} --num-layers-per-virtual-pipeline-stage 5",
        "--num-layers-per-virtual-pipeline-stage",
        "set --num-layers-per-virtual-pipeline-stage 4",
    ),
    Mistake(
        "one connection too many",
        "CUDA_DEVICE_MAX_CONNECTIONS=1",
        "CUDA_DEVICE_MAX_CONNECTIONS=8",
        "CUDA_DEVICE_MAX_CONNECTIONS",
        "export CUDA_DEVICE_MAX_CONNECTIONS=1",
    ),
    Mistake(
        "parameters gathered in FP8 without the distributed optimizer",
        "--use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather",
        "",
        "--fp8-param-gather",
        "add --use-distributed-optimizer",
    ),
    Mistake(
        "parameters gathered while gradients are not reduced",
        "--overlap-grad-reduce ",
        "",
        "--overlap-param-gather",
        "add --overlap-grad-reduce",
    ),
    Mistake(
        "parameters gathered in FP8 without FP8",
        "--fp8-format hybrid --fp8-recipe delayed \\\n"
        "    --fp8-amax-history-len 1024 --fp8-amax-compute-algo max",
        "",
        "--fp8-param-gather",
        "add --fp8-format hybrid",
    ),
    Mistake(
        "a recipe of Blackwell",
        "--fp8-recipe delayed",
        "--fp8-recipe mxfp8",
        "--fp8-recipe",
        "blockwise or tensorwise",
        by="engine",
    ),
    Mistake(
        "a recipe that there is not",
        "--fp8-recipe delayed",
        "--fp8-recipe tensorwize",
        "--fp8-recipe",
        "tensorwise",
    ),
    Mistake(
        "no history of scales",
        "--fp8-amax-history-len 1024",
        "",
        "--fp8-amax-history-len",
        "set --fp8-amax-history-len 1024",
        by="nobody",
    ),
    Mistake(
        "a history of which only the last counts",
        " --fp8-amax-compute-algo max",
        "",
        "--fp8-amax-compute-algo",
        "set --fp8-amax-compute-algo max",
        by="nobody",
    ),
    Mistake(
        "layers left out of delayed scaling",
        END,
        f"{END} --first-last-layers-bf16",
        "--first-last-layers-bf16",
        "set --fp8-recipe tensorwise",
    ),
    Mistake(
        "an ffn that FP8 cannot multiply",
        "--ffn-hidden-size 5632",
        "--ffn-hidden-size 5640",
        "--ffn-hidden-size",
        "set --ffn-hidden-size 5664",
        by="engine",
    ),
    Mistake(
        "heads that FP8 cannot multiply",
        "--num-attention-heads 16",
        "--num-attention-heads 16 --kv-channels 125",
        "--kv-channels",
        "set --kv-channels 126",
        by="engine",
    ),
    Mistake(
        "tokens that FP8 cannot multiply",
        "SEQUENCE:-4096",
        "SEQUENCE:-4100",
        "--seq-length",
        "set --seq-length 4128",
        by="engine",
    ),
    Mistake(
        "an ffn of no whole blocks",
        END,
        f"{END} --ffn-hidden-size 5664 --fp8-recipe blockwise",
        "--ffn-hidden-size",
        "set --ffn-hidden-size 5888",
        by="nobody",
    ),
    Mistake(
        "layers of plain torch",
        END,
        f"{END} --transformer-impl local",
        "--transformer-impl",
        "set --transformer-impl transformer_engine",
        by="nobody",
    ),
    Mistake("two precisions", "--bf16", "--bf16 --fp16", "--fp16", "leave it out"),
    Mistake(
        "samples and iterations",
        "--train-iters 20000",
        "--train-iters 20000 --train-samples 2560000",
        "--train-samples",
        "leave one",
    ),
    Mistake(
        "a warmup in samples",
        "--lr-warmup-iters 200",
        "--lr-warmup-samples 25600",
        "--lr-warmup-samples",
        "set --lr-warmup-iters",
    ),
    Mistake(
        "a rate that rises", "--min-lr 3e-5", "--min-lr 3e-3", "--min-lr", "set --min-lr 3e-05"
    ),
    Mistake("no interval of saving", " --save-interval 500", "", "--save", "add --save-interval"),
    Mistake(
        "experts that EP does not divide",
        END,
        f"{END} --num-experts 6 --expert-model-parallel-size 4 --moe-grouped-gemm",
        "--num-experts",
        "set --num-experts 8",
    ),
    Mistake(
        "more experts than ranks",
        END,
        f"{END} --num-experts 8 --expert-model-parallel-size 8",
        "--expert-model-parallel-size",
        "start 32 ranks",
        by="ranks",
    ),
    Mistake(
        "a space after a backslash",
        "--lr-warmup-iters 200 \\\n",
        "--lr-warmup-iters 200 \\ \n",
        "--lr-warmup-iters",
        "take the space away",
        by="nobody",
    ),
    Mistake(
        "a flag and its value in one word",
        END,
        f'{END} "--seed 1"',
        "--seed",
        "leave out the quotes",
    ),
    Mistake(
        "data beside the plan",
        END,
        f"{END} --data-path 1.0 py",
        "--data-path",
        "leave it out",
        by="launcher",
    ),
    Mistake(
        "a loader that shuffles",
        END,
        f"{END} --dataloader-type cyclic",
        "--dataloader-type",
        "set --dataloader-type single",
        by="launcher",
    ),
    Mistake(
        "conversations",
        END,
        f"{END} --sft",
        "--sft",
        "leave it out",
        by="launcher",
    ),
    Mistake(
        "phases beside stages",
        END,
        f"{END} --phase-transition-iterations 100",
        "--phase-transition-iterations",
        "leave it out",
        by="launcher",
    ),
    Mistake(
        "a graph of the whole step",
        END,
        f"{END} --cuda-graph-impl local --cuda-graph-scope full_iteration",
        "--cuda-graph-scope",
        "leave --cuda-graph-scope out",
        by="launcher",
    ),
    Mistake(
        "sequences that the plan does not have",
        "SEQUENCE:-4096",
        "SEQUENCE:-8192",
        "--seq-length",
        "set --seq-length 4096",
        by="launcher",
    ),
    Mistake(
        "other tokens than the plan's",
        "--train-iters 20000",
        "--train-iters 25000",
        "--train-iters",
        "set --train-iters 20000",
        by="launcher",
    ),
    Mistake(
        "a token of the next sequence that is learnt",
        "--eod-mask-loss --blendlaw-plan plan.toml --blendlaw-dir run",
        "--per-split-data-args-path blend.json",
        "--eod-mask-loss",
        "add --eod-mask-loss",
        by="nobody",
    ),
    Mistake(
        "pairs that are torn",
        END,
        f"{END} --fim-data --fim-rate 0.5",
        "--fim-data",
        "leave it out",
        by="launcher",
    ),
    Mistake(
        "a launcher without a folder",
        END,
        "",
        "--blendlaw-dir",
        "add --blendlaw-dir run",
        by="launcher",
    ),
    Mistake(
        "Megatron's own script",
        "--blendlaw-plan plan.toml --blendlaw-dir run",
        "--mock-data",
        "--blendlaw-plan",
        "-m blendlaw_hooks.launch",
        by="nobody",
    ),
]

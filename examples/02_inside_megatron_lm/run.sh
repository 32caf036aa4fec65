#!/usr/bin/env bash
# Megatron-LM's own pretrain_gpt.py with blendlaw in it, rehearsed on the CPU: run.sh MEGATRON_LM [OUT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
megatron=$(cd "$1" && pwd)
out=${2:-out/02_inside_megatron_lm}
ranks=${RANKS:-2}

mkdir -p "$out"
cd "$out"
if [ ! -e corpus/corpus.json ]; then
    python3 -m blendlaw.samplecode code --megabytes 4 || python3 -m blendlaw.samplecode code --generated --megabytes 1
    blendlaw corpus code/*.jsonl -o corpus --train-tokenizer --vocab-size 2048 --valid-share 0.05
fi
blendlaw check "$here/plan.toml" || true  # the law's stages have no fit yet

# The lab's command, and the last three lines.
export OMP_NUM_THREADS=1
python3 -m torch.distributed.run --standalone --nproc-per-node="$ranks" \
    -m blendlaw_hooks.launch "$megatron/pretrain_gpt.py" \
    --num-layers 2 --hidden-size 64 --num-attention-heads 4 --seq-length 256 \
    --max-position-embeddings 256 --position-embedding-type rope --swiglu \
    --disable-bias-linear --normalization RMSNorm --hidden-dropout 0 --attention-dropout 0 \
    --micro-batch-size 8 --global-batch-size 16 --train-iters 300 \
    --lr 3e-3 --min-lr 3e-3 --lr-decay-style constant --lr-warmup-iters 20 \
    --tokenizer-type NullTokenizer --vocab-size 2047 --make-vocab-size-divisible-by 128 \
    --log-interval 10 --eval-interval 50 --eval-iters 4 --num-workers 1 \
    --save checkpoints --load checkpoints --save-interval 50 --tensorboard-dir tensorboard \
    --no-create-attention-mask-in-dataloader --data-cache-path cache \
    --blendlaw-plan "$here/plan.toml" \
    --blendlaw-dir run \
    --blendlaw-cpu

blendlaw report run -o report.html

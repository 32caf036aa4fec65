#!/usr/bin/env bash
# Translation pairs, from package registries to what a model has learnt of them: run.sh [OUT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-out/03_translation_pairs}
ranks=${RANKS:-2}

mkdir -p "$out"
cd "$out"
# Real code and real translations, or, without a network (and with OFFLINE=1), both made up.
if [ ! -e corpus/corpus.json ]; then
    held_out=24
    if [ -n "${OFFLINE:-}" ] || ! { python3 -m blendlaw.samplecode tasks --pairs --megabytes 1 &&
        python3 -m blendlaw.samplecode code --megabytes 1; }; then
        echo "No translations from registries: all code below is made up." >&2
        rm -rf tasks code
        python3 -m blendlaw.samplecode tasks --parallel 200
        python3 -m blendlaw.samplecode code --generated --megabytes 0.2
        held_out=8 # each is in seven languages, which makes 42 directions
    fi
    head -n "$held_out" tasks/tasks.jsonl > held_out.jsonl
    blendlaw corpus code/*.jsonl -o corpus --train-tokenizer --vocab-size 1024 --pad '<|pad|>' --valid-share 0.1
fi

blendlaw pairs build "$here/plan.toml" -o pairs
OMP_NUM_THREADS=1 python3 -m torch.distributed.run --standalone --nproc-per-node="$ranks" \
    -m blendlaw_hooks.trainer "$here/plan.toml" --dir run
blendlaw translate-eval "$here/plan.toml" held_out.jsonl --dir run -o translation.json
blendlaw report run translation.json -o report.html

#!/usr/bin/env bash
# Both launches rehearsed on this machine, on stand-ins for corpora and proxies: run.sh MEGATRON_LM [OUT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export MEGATRON_LM=$(cd "$1" && pwd)
out=${2:-out/04_cluster}

mkdir -p "$out"
cd "$out"
cp "$here"/*.toml "$here"/*.slurm .
if [ ! -e data/corpus.json ]; then
    python3 -m blendlaw.samplecode code --generated --megabytes 1
    blendlaw corpus code/*.jsonl -o data --train-tokenizer --vocab-size 2048 --valid-share 0.05
    mkdir -p proxies # 420 runs of these languages, from the paper, as if they were the proxies'
    blendlaw convert "$(python3 -c "from blendlaw.data import code7; print(code7('losses'))")" --format jsonl -o proxies/observations.jsonl
fi

for size in 1_5b 7b; do
    rm -rf "rehearsal_$size"
    python3 -m blendlaw_hooks.rehearse "$size.slurm" -o "rehearsal_$size" ${INDICES:+--indices}
    blendlaw report "rehearsal_$size/run" -o "rehearsal_$size/report.html"
done

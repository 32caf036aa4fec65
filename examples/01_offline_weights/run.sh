#!/usr/bin/env bash
# From losses to a blend file: fit, allocate, check, blend, report.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-out/01_offline_weights}
data() { python3 -c "from blendlaw.data import code7; print(code7('$1'))"; }
losses=${LOSSES:-$(data losses)}
pairs=${PAIRS:-$(data synergy)}

mkdir -p "$out"
blendlaw synergy "$pairs" -o "$out/synergy.json"
blendlaw fit "$losses" --transfer "$out/synergy.json" --bootstrap 200 -o "$out/fit.json"
blendlaw allocate "$out/fit.json" --params 1.5e9 --tokens 350e9 --plan "$here/plan.toml" -o "$out/allocation.json"
blendlaw check "$here/plan.toml" --fit "$out/fit.json"
blendlaw blend "$here/plan.toml" --weights "$out/allocation.json" -o "$out/blend.json"
blendlaw report "$out" "$losses" -o "$out/report.html"

#!/usr/bin/env bash
# The whole study: ./run.sh [OUT]. OFFLINE=1 makes up the code and shortens the runs: a rehearsal.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath -m "${1:-out}")
more=()
[ -z "${OFFLINE:-}" ] || more=(--tiny --seeds 2)
python "$here/study.py" --folder "$out/work" --record "$out" "${more[@]}"
python "$here/results.py" "$out"
python "$here/figures.py" "$out"

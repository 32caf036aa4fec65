#!/usr/bin/env bash
# The stack's tests with a checkout of Megatron-LM: matrix.sh MEGATRON_LM [PYTHON [TEST…]]
# Makes an environment of that Python in .venv-<version>, with the newest megatron-core for it, and
# prints a line for the table of docs/versions.md at the end. KILLS=10: more random kills.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkout=$(cd "$1" && pwd)
python=${2:-python3.11}
shift $(($# < 2 ? $# : 2))
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
environment=${VENV:-.venv-$version} # VENV=.venv: that of `make stack`
[ "$version" = 3.11 ] && core=0.16.1 || core=0.19.2

if [ ! -e "$environment/.stack" ]; then
    "$python" -m venv "$environment"
    install() { "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
    install torch==2.13.0 psutil --editable '.[test]'
    install --no-deps "megatron-core==$core"
    install six regex pyyaml triton pydantic einops # what a checkout imports beside
    touch "$environment/.stack"
fi

export BLENDLAW_MEGATRON_LM=$checkout BLENDLAW_KILLS=${KILLS:-3} OMP_NUM_THREADS=1
tests=("$@")
[ $# -gt 0 ] || tests=(tests/stacks tests/test_examples.py)
log=$(mktemp)
"$environment/bin/python" -m pytest "${tests[@]}" | tee "$log" || status=$?
"$environment/bin/python" - "$log" "${tests[*]}" <<'PY'
import datetime, importlib.metadata as installed, platform, re, sys
from pathlib import Path
import os

about = Path(os.environ["BLENDLAW_MEGATRON_LM"], "megatron/core/package_info.py").read_text()
core = ".".join(re.findall(rf"^{name} = (\d+)", about, re.M)[0] for name in ("MAJOR", "MINOR", "PATCH"))
ended = Path(sys.argv[1]).read_text().strip().splitlines()[-1].strip("= ")
cells = [f"core {core}", installed.version("megatron-core"), platform.python_version(), installed.version("torch")]
print("|", " | ".join([*cells, str(datetime.date.today()), sys.argv[2], ended]), "|")
PY
exit "${status:-0}"

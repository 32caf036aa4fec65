"""``plain_lm.py pretrain_gpt.py FLAGS``: the script on the CPU, without blendlaw's part in it."""

import runpy
import sys
from pathlib import Path

from blendlaw_hooks import cpu

sys.argv = [*sys.argv[1:], *cpu.FLAGS]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
cpu.install()
runpy.run_path(sys.argv[0], run_name="__main__")
cpu.leave()

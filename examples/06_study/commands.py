"""Commands of blendlaw, each as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(folder: Path, module: str, *arguments: str) -> str:
    """What ``python -m module arguments`` in ``folder`` prints; ends the study if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed in {folder}: {module} {' '.join(arguments)}")
    return done.stdout

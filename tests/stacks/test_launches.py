"""The lint of launch scripts beside Megatron-LM itself, from a checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import lm
import pytest
from planted import MISTAKES, SCRIPT

from blendlaw.errors import InputError
from blendlaw.launches.flags import Launch, read_launch
from blendlaw.launches.lint import lint_launch

pytestmark = pytest.mark.skipif(
    lm.CHECKOUT == lm.MINI, reason=f"needs a checkout of Megatron-LM: {lm.VARIABLE} names it"
)

# What is wrong with the examples as they are; Megatron asserts each. The GPUs are told to be
# changed by comments in the first two.
WRONG = {
    "bert/train_bert_340m_distributed.sh": {"--tensor-model-parallel-size", "--num-layers"},
    "gpt3/train_gpt3_175b_distributed.sh": {"--tensor-model-parallel-size", "--rampup-batch-size"},
    "gptoss/02_train.sh": {"--num-layers"},
    "mixtral/train_mixtral_8x7b_distributed.sh": {"--expert-model-parallel-size"},
}


def megatron() -> tuple[int, int]:
    about = (lm.CHECKOUT / "megatron/core/package_info.py").read_text()
    major, minor = (re.findall(rf"^{name} = (\d+)", about, re.M)[0] for name in ("MAJOR", "MINOR"))
    return int(major), int(minor)


def examples() -> dict[str, Launch]:
    found = {}
    root = lm.CHECKOUT / "examples"
    for path in sorted(root.rglob("*.sh")):
        try:
            launch = read_launch(path.read_text(), megatron=megatron())
        except InputError as error:
            if not error.problem.startswith("no training command"):
                raise
            continue
        found[str(path.relative_to(root))] = launch
    return found


def test_the_examples_pass_but_for_what_is_wrong_with_them() -> None:
    launches = examples()
    assert len(launches) >= 10
    for name, launch in launches.items():
        errors = {finding.flag for finding in lint_launch(launch).of("error")}
        assert errors <= WRONG.get(name, set()), name
        warnings = {finding.flag for finding in lint_launch(launch).of("warning")}
        assert warnings <= {"--sequence-parallel"}, name  # with one tensor-parallel rank
        if name in WRONG and "bert" not in name and megatron() != (0, 12):
            assert errors, name


def case(script: str) -> tuple[int | None, dict[str, str], list[str]]:
    """Ranks, environment and flags of a script, without those of blendlaw's launcher."""
    launch = read_launch(script)
    name = "CUDA_DEVICE_MAX_CONNECTIONS"
    own = {flag: values for flag, values in launch.given.items() if "blendlaw" not in flag}
    flags = [word for flag, values in own.items() for word in (f"--{flag}", *values)]
    return launch.ranks, {name: launch.variables[name] or ""}, flags


@pytest.mark.slow
def test_megatron_takes_the_clean_script_and_refuses_the_mistakes() -> None:
    mistakes = [mistake for mistake in MISTAKES if mistake.by == "Megatron"]
    scripts = [SCRIPT, *(SCRIPT.replace(mistake.old, mistake.new) for mistake in mistakes)]
    worker = [sys.executable, str(Path(__file__).with_name("validate_worker.py"))]
    done = subprocess.run(
        [*worker, str(lm.CHECKOUT)],
        input=json.dumps([case(script) for script in scripts]),
        env=lm.ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    clean, *complaints = json.loads(done.stdout.splitlines()[-1])
    assert clean is None
    taken = [m.what for m, told in zip(mistakes, complaints, strict=True) if told is None]
    assert not taken

"""Launch scripts: read without being run, and the mistakes that are found in them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted import MISTAKES, PLAN, SCRIPT, Mistake

from blendlaw.cli import main
from blendlaw.errors import InputError
from blendlaw.files import MAX_BYTES
from blendlaw.launches.expanding import OPEN
from blendlaw.launches.flags import read_launch
from blendlaw.launches.lint import LaunchLint, lint_launch
from blendlaw.launches.script import read_script
from blendlaw.observations import format_observations
from blendlaw.plan import LanguagePlan, Plan, Run, Stage, read_plan
from blendlaw.records import observe


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A clean script and its plan, in the working folder."""
    (tmp_path / "launch.sh").write_text(SCRIPT)
    (tmp_path / "plan.toml").write_text(PLAN)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def plan(folder: Path) -> Plan:
    return read_plan("plan.toml")


def linted(old: str = "", new: str = "", plan: Plan | None = None) -> LaunchLint:
    assert old in SCRIPT
    return lint_launch(read_launch(SCRIPT.replace(old, new) if old else SCRIPT), plan)


# Mistakes


def test_the_clean_script_is_clean(plan: Plan) -> None:
    found = linted(plan=plan)
    assert (found.script, found.gpus) == ("pretrain_gpt.py", 16)
    assert (found.findings, found.notes) == ((), ())


def test_a_record_that_no_refit_could_read() -> None:
    """With many languages losses.jsonl grows by their square; the interval that is told will do."""
    languages = {f"L{n}": LanguagePlan() for n in range(120)}
    tokens = 5_242_880_000.0
    stages = (Stage("first", tokens, "uniform"), Stage("second", tokens, "uniform"))
    many = Plan(Run(1.5e9, 2 * tokens, 4096), languages, stages)
    interval = re.compile(r"set --log-interval (\d+)")

    def told(flags: str) -> list[str]:
        launch = read_launch(SCRIPT.replace("--eval-iters 16", f"--eval-iters 0 {flags}"))
        found = lint_launch(launch, many).of("error")
        return [each.change for each in found if each.flag == "--log-interval"]

    (change,) = told("--log-interval 10")
    wanted = interval.search(change)
    assert wanted is not None
    assert not told(f"--log-interval {wanted[1]}")
    assert told(f"--log-interval {int(wanted[1]) // 2}")
    row = observe(
        dict.fromkeys(languages, (1.23456789, 123456.0)),
        params=1.5e9,
        tokens=1.6e12,
        bytes_per_token=dict.fromkeys(languages, 3.5),
        tokens_by_language=dict.fromkeys(languages, 12345678901.5),
        unique_tokens=dict.fromkeys(languages, 123456789012),
        run="run",
        stage="first",
        step=1000,
        split="train",
    )
    rows = 20000 // int(wanted[1])
    size = rows * len(format_observations(row, "jsonl"))
    assert MAX_BYTES / 2 < size < MAX_BYTES  # what would really be written


def test_something_to_validate_on(folder: Path) -> None:
    """Pairs will do."""
    python, pairs = '\nvalid_sources = ["py_valid"]', '\nvalid_sources = ["pairs_valid"]'
    assert python in PLAN
    assert pairs in PLAN

    def flags(text: str) -> list[str]:
        (folder / "plan.toml").write_text(text)
        return [each.flag for each in linted(plan=read_plan("plan.toml")).findings]

    assert "--eval-iters" not in flags(PLAN.replace(python, ""))
    assert "--eval-iters" in flags(PLAN.replace(python, "").replace(pairs, ""))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_planted_mistake_is_found(mistake: Mistake, plan: Plan) -> None:
    found = linted(mistake.old, mistake.new, plan)
    hits = [each for each in found.findings if each.flag == mistake.flag]
    assert any(mistake.change in each.change for each in hits), found
    levels = {each.level for each in hits if mistake.change in each.change}
    assert levels == {"error"} or mistake.by == "nobody"


@pytest.mark.parametrize(
    ("flags", "megatron", "finding"),
    [
        ("--fp8-recipe blockwise", (0, 12), "blockwise needs Megatron 0.13 or later, not 0.12"),
        ("--num-query-groups 1", (0, 12), "1 are neither a multiple nor a divisor of"),
        ("--rampup-batch-size 16 16 5000", (0, 16), "before Megatron 0.18 it cannot go with"),
    ],
)
def test_what_hangs_on_the_version(flags: str, megatron: tuple[int, int], finding: str) -> None:
    script = f"{SCRIPT.rstrip()} {flags}\n"
    old = lint_launch(read_launch(script, megatron=megatron)).of("error")
    new = lint_launch(read_launch(script, megatron=(0, 20))).of("error")
    assert [each for each in old if finding in each.problem]
    assert not [each for each in new if finding in each.problem]


def test_without_the_launcher_data_are_the_commands_own(plan: Plan) -> None:
    own = "--per-split-data-args-path blend.json"
    found = linted("--blendlaw-plan plan.toml --blendlaw-dir run", own, plan)
    assert [(each.level, each.flag) for each in found.findings] == [("warning", "--blendlaw-plan")]


def test_what_the_script_leaves_open_is_noted(plan: Plan) -> None:
    found = linted("TP=2; PP=2", "TP=$1; PP=2", plan)
    assert found.findings == ()
    assert found.notes == ("not all checked: --tensor-model-parallel-size is $1",)
    found = linted("PP=2\n", 'PP=2\n[ -f x ] && MORE="--sft"\n', plan)
    assert found.notes == ("not looked at: what is under `[ -f x ] &&`",)
    found = linted("if [[ -n", "if [[ -f", plan)
    assert found.notes == ('not looked at: what is under `if [[ -f "$PRECISION" ]]`',)


@pytest.mark.parametrize(
    ("value", "told"),
    [("two", "a whole number is needed (got 'two')"), ("0", "must be 1 or more (got 0)")],
)
def test_a_value_that_is_no_number(value: str, told: str) -> None:
    found = linted("--num-query-groups 4", f"--num-query-groups {value}")
    assert {(each.flag, each.problem) for each in found.findings} == {("--num-query-groups", told)}


# Scripts


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("run --a 1 \\\n  --b 2 # --c 3", "run --a 1 --b 2"),
        ("A=1\nB=$A$A\nrun ${B} \"$B x\" '$B'", "run|11|11 x|$B"),
        ("A=${B:-5}; B=7; A=${B:-5}; run $A ${C:-${B}}", "run 7 7"),
        ("A=(--a 1)\nA+=('--b 2' --c)\nrun ${A[@]}", "run --a 1 --b 2 --c"),
        ("A=(--a 1)\nA+=('--b 2' --c)\nrun \"${A[@]}\" ${#A[@]}", "run|--a|1|--b 2|--c|4"),
        ('A=()\nrun "${A[@]}" ${A[@]} "" x', "run||x"),
        ('A=(1 2)\nrun "<${A[@]}>"', "run|<1|2>"),
        ("A=(\n--a 1 # one\n# --b 2\n--c\n)\nrun ${A[*]} ${A[1]}", "run --a 1 --c 1"),
        ("N=8; M=2\nrun $(($N * M)) $((N%3)) $(( (N+1)/2 ))", "run 16 2 4"),
        ("A=x\nif [ $A = x ]; then B=1; else B=2; fi; run $B", "run 1"),
        (
            'if [[ "$A" == "" ]] && [[ 3 -gt 2 ]]; then B=1\nelif true; then B=3; fi; run $B',
            "run 1",
        ),
        ("A=8B\ncase $A in\n1B) N=1;;\n8B|9B) N=8\n;;\n*) N=0;; esac\nrun $N", "run 8"),
        ('[ -z $A ] && B=1\n[ -n "$A" ] && B=2\nmkdir x || exit 1\nrun $B', "run 1"),
        ("A=1\nexport A=2 B=3\nunset A\nrun ${A-4} $B", "run 4 3"),
        ('C="run --a 1"\nbash -c "$C --b"', "run --a 1 --b"),
        (
            "A=2\nsbatch <<EOF\n#!/bin/bash\nsrun run --a $A \\${B:-1} > log 2>&1\nEOF",
            "srun run --a 2 1",
        ),
        ("A=1 run --a > out.log 2>&1 &", "run --a"),
        ("#SBATCH --nodes=4\n#SBATCH -n 32\nrun $SLURM_NNODES $SLURM_NTASKS", "run 4 32"),
        ("#SBATCH -N 4 --gres=gpu:h800:8\nrun $SLURM_NNODES $SLURM_GPUS_ON_NODE", "run 4 8"),
        ("A=9\nrun $((99999999999 * 99999999999)) $((A**2)) $A", "run ? ? 9"),
        ("for i in 1 2; do\nrun $i\ndone\nrun --b", "run --b"),
    ],
)
def test_a_script_is_followed(script: str, words: str) -> None:
    wanted = words.split("|") if "|" in words else words.split()
    found = read_script(script).commands[-1]
    assert ["?" if OPEN in word else word for word in found] == wanted


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_sees_the_same_words(tmp_path: Path) -> None:
    told = 'torchrun() { printf "%s\\n" torchrun "$@"; }\nSLURM_NNODES=2\n'
    line = ["bash", "-c", told + SCRIPT]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert read_script(SCRIPT).commands[-1] == done.stdout.splitlines()


@pytest.mark.parametrize(
    ("launcher", "ranks"),
    [
        ("torchrun --nproc_per_node=8 --nnodes=4", 32),
        ("python -m torch.distributed.run --nproc-per-node 8", 8),
        ("torchrun --nproc_per_node 8 --nnodes $N", None),
        ("torchrun --nproc_per_node gpu", None),
        ("srun --nodes 2 --ntasks-per-node 8 python -u", 16),
        ("srun --ntasks=24 python", 24),
        ("srun -n 24 python -m blendlaw_hooks.launch", 24),
        ("srun -N 3 --ntasks-per-node=8 python -m blendlaw_hooks.launch", 24),
        ("python", None),
    ],
)
def test_the_ranks_that_a_launcher_starts(launcher: str, ranks: int | None) -> None:
    assert read_launch(f"{launcher} pretrain_gpt.py --train-iters 3").ranks == ranks


def test_nothing_is_run(folder: Path) -> None:
    script = f"touch made; A=$(touch made)\n`touch made`\neval 'touch made'\n{SCRIPT}"
    read_launch(script)
    assert not (folder / "made").exists()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("", "no training command"),
        ("python preprocess_data.py --input x", "no training command"),
        ("run 'a", "a ' that is not closed"),
        ("A=(1 2", "an array that is not closed"),
        ("run ${A", "a } is missing"),
        ("A=xxxxxxxxxxxxxxxx\n" + "A=$A$A\n" * 40, "variables come to more than"),
        ("run " + "$(" * 20_000 + ")" * 20_000, "too many brackets"),
        ("A='eval \"$A\"'\neval $A", "too deep to follow"),
        (f"A='{'eval $A;' * 999}'\neval \"$A\"", "too deep to follow"),
    ],
)
def test_a_script_that_cannot_be_followed(script: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("}", r"\}")):
        read_launch(script)


# The command


def check(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[str, object]:
    with pytest.raises(SystemExit) as ended:
        main(["check", *line.split()])
    shown = capfd.readouterr()
    return shown.out + shown.err, ended.value.code


def test_the_command(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told, status = check("plan.toml --command launch.sh", capfd)
    assert (status, told.splitlines()[-2:]) == (
        0,
        ["command: pretrain_gpt.py on 16 GPUs", "no errors"],
    )
    Path("bad.sh").write_text(SCRIPT.replace("--num-layers 24", "--num-layers 25"))
    told, status = check("plan.toml --command bad.sh", capfd)
    assert (status, told.splitlines()[-1]) == (
        1,
        "error: --num-layers: 25 are not a multiple of --pipeline-model-parallel-size 2: "
        "set --num-layers 26",
    )
    told, status = check("--command launch.sh --gpus 12 --megatron core_v0.16.1 --json", capfd)
    (finding,) = json.loads(told)["launch"]["findings"]
    assert (status, finding["flag"]) == (1, "--tensor-model-parallel-size")
    assert finding["problem"] == "12 GPUs are not a multiple of TP 2 × PP 2 × CP 2 = 8"


def test_the_command_from_stdin(folder: Path) -> None:
    line = [sys.executable, "-m", "blendlaw", "check", "--command", "-"]
    done = subprocess.run(line, input=SCRIPT, capture_output=True, text=True, check=True)
    assert done.stdout == "command: pretrain_gpt.py on 16 GPUs\nno errors\n"


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("", 2, "nothing to check"),
        ("--fit fit.json --command launch.sh", 2, "go with a PLAN"),
        ("plan.toml --gpus 8", 2, "go with --command"),
        ("--command launch.sh --megatron new", 2, "'new' is not a version"),
        ("--command launch.sh --gpus 0", 2, "--gpus"),
        ("--command gone.sh", 1, "gone.sh: No such file"),
        ("--command plan.toml", 1, "plan.toml: no training command"),
    ],
)
def test_what_the_command_refuses(
    line: str, status: int, told: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown, ended = check(line, capfd)
    assert (ended, shown.count("\n")) == (status, 1)
    assert told in shown

"""The trainer on one Hopper GPU, in bf16 and by each FP8 recipe.

``python -m pytest tests/gpu -s`` prints the figures too. Skipped, with the reason, without such a
GPU or without Transformer Engine. The runs train on generated code of three languages, through
two stages of which the second is decided by a refit.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blendlaw.errors import InputError
from blendlaw.observations import Observation, read_observations
from blendlaw.plan import read_plan
from blendlaw.records import key
from blendlaw.schedule import StageRecord, read_schedule

torch = pytest.importorskip("torch", reason="needs torch")
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
if torch.cuda.get_device_capability() < (9, 0):
    pytest.skip("needs a Hopper GPU, for FP8 in blocks", allow_module_level=True)
pytest.importorskip("transformer_engine.pytorch", reason="needs Transformer Engine")
pytest.importorskip("megatron.core", reason="needs megatron-core")

from blendlaw_hooks.trainer_setup import device, join  # noqa: E402

HERE = device()
join(HERE)

from blendlaw_hooks.trainer_loop import Training  # noqa: E402

ROOT = Path(__file__).parents[2]
LANGUAGES = ("Python", "Go", "Rust")
RECIPES = ("delayed", "tensorwise", "blockwise")
STEPS, REFIT, SAVED, INTERVAL = 300, 200, 240, 10
LENGTH, BATCH = 512, 16
CORPUS = ("--vocab-size", "2048", "--valid-share", "0.05")
MODEL = {"hidden": 512, "layers": 4, "ffn": 1408, "learning_rate": 2e-3, "warmup": 0.05}
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(
        [str(ROOT / "hooks"), str(ROOT / "plugin"), os.environ.get("PYTHONPATH", "")]
    ),
}
WITHOUT_ENGINE = "import sys; sys.modules['transformer_engine'] = None; "
TRAIN = "from blendlaw_hooks.trainer import main; main()"


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus."""
    folder = tmp_path_factory.mktemp("gpu")
    inputs = [f"code/{name.lower()}.jsonl" for name in LANGUAGES]
    for command in (
        ("blendlaw.samplecode", "code", "--generated", "--megabytes", "3"),
        ("blendlaw", "corpus", *inputs, "-o", "corpus", "--train-tokenizer", *CORPUS),
    ):
        begin = [sys.executable, "-m", *command]
        subprocess.run(begin, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    return folder


def write_plan(
    folder: Path, name: str, stages: dict[int, str], batch: int, length: int, **trainer: Any
) -> Path:
    """A plan; ``stages`` are their last steps and weights."""
    lines = ["[run]", "params = 20e6", f"sequence_length = {length}"]
    for language in LANGUAGES:
        prefix = folder / "corpus" / language.lower()
        lines += [f"[languages.{language}]", f'sources = ["{prefix}_train"]']
        lines += [f'valid_sources = ["{prefix}_valid"]', "max_epochs = 8", "floor = 0.1"]
    begin = 0
    for end, weights in stages.items():
        tokens = (end - begin) * batch * length
        lines += ["[[stages]]", f'name = "to-{end}"', f"tokens = {tokens}", f"weights = {weights}"]
        begin = end
    keys = {"schedule": "wsd", "log_interval": INTERVAL, "global_batch": batch} | trainer
    lines += ["[trainer]", *(f"{k} = {json.dumps(v)}" for k, v in keys.items())]
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class Run:
    """A run that has ended, with what it left in the process."""

    folder: Path
    training: Any

    @property
    def losses(self) -> list[Observation]:
        return read_observations(self.folder / "losses.jsonl")

    @property
    def stages(self) -> tuple[StageRecord, ...]:
        return read_schedule(self.folder / "schedule.jsonl").records

    def valid(self, step: int) -> dict[str, float]:
        return {o.language: o.loss for o in self.losses if o.split == "valid" and o.step == step}


def keys_of(name: str) -> dict[str, Any]:
    return {"precision": "fp8", "fp8_recipe": name} if name in RECIPES else {"precision": name}


def trained(plan: Path, folder: Path, **changes: Any) -> Run:
    training = Training(read_plan(plan).with_trainer(changes), folder, HERE, None)
    training.run()
    return Run(folder, training)


@pytest.fixture(scope="session")
def run(code: Path) -> Callable[[str], Run]:
    """The run of a precision, or of an FP8 recipe: the same data up to the refit."""
    plan = write_plan(
        code,
        "plan",
        {REFIT: "{Python = 0.5, Go = 0.3, Rust = 0.2}", STEPS: '"law"'},
        BATCH,
        LENGTH,
        **MODEL,
        micro_batch=8,
        validation_interval=REFIT,
        checkpoint_interval=SAVED,
    )
    return functools.cache(lambda name: trained(plan, code / name, **keys_of(name)))


# Short runs in processes of their own, all begun at once.

SHORT = 20


@pytest.fixture(scope="session", autouse=True)
def short(code: Path) -> Iterator[Callable[[str], Run]]:
    """Runs of the first steps: on the CPU, on the GPU, there without the engine, under torchrun."""
    stages = {SHORT: "{Python = 0.5, Go = 0.3, Rust = 0.2}"}
    small = {"hidden": 256, "layers": 2, "vocabulary": 2048, "validation_interval": 0}
    plan = write_plan(code, "short", stages, 8, 128, **small, learning_rate=1e-3)
    no_gpu = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "4"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    worker = [*torchrun, "-m", "blendlaw_hooks.trainer"]
    started = {
        name: subprocess.Popen(
            [sys.executable, *how, str(plan), "--dir", str(code / name), *flags],
            env=ENVIRONMENT | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, how, flags, environment in (
            ("cpu", ["-c", TRAIN], [], no_gpu),
            ("plain", ["-c", WITHOUT_ENGINE + TRAIN], [], {}),
            ("fp32", ["-c", TRAIN], [], {}),
            ("bf16-short", ["-c", TRAIN], ["--set", "precision=bf16"], {}),
            ("torchrun", worker, ["--set", "precision=fp8", "--set", "workers=2"], {}),
        )
    }

    def ended(name: str) -> Run:
        process = started[name]
        output = process.communicate(timeout=120)[0] if process.returncode is None else ""
        assert process.returncode == 0, output[-4000:]
        return Run(code / name, None)

    yield functools.cache(ended)
    for process in started.values():
        if process.poll() is None:
            process.kill()


def furthest(one: Run, other: Run, split: str = "train") -> float:
    """The largest relative difference of losses of the same rows."""
    ours, theirs = ([o for o in r.losses if o.split == split] for r in (one, other))
    assert [key(o)[1:] for o in ours] == [key(o)[1:] for o in theirs]
    pairs = zip(ours, theirs, strict=True)
    return max(abs(a.loss / b.loss - 1) for a, b in pairs)


# Training.


def test_bf16_with_a_refit(run: Callable[[str], Run]) -> None:
    assert torch.distributed.get_backend() == "nccl"
    done = run("bf16")
    assert all(parameter.is_cuda for parameter in done.training.model.bare.parameters())
    second = done.stages[1]
    assert second.reason.startswith("law: chinchilla fitted to "), second.reason
    assert second.fit is not None
    assert (done.folder / second.fit).exists()
    for language in LANGUAGES:
        of = [o.loss for o in done.losses if o.language == language and o.split == "train"]
        assert of[-1] < of[0] / 2
    print(f"\nbf16: valid {done.valid(STEPS)}, weights {second.weights}")


@pytest.mark.parametrize("recipe", RECIPES)
def test_fp8_within_1_percent_of_bf16(run: Callable[[str], Run], recipe: str) -> None:
    """Before the refit on the same data; after it by weights of the run's own refit."""
    reference, done = run("bf16"), run(recipe)
    assert done.training.model.bare.config.fp8_recipe == recipe
    assert fp8_modules(done)
    assert done.stages[1].reason.startswith("law: "), "a refit during an FP8 run"
    off = {
        step: {n: x / reference.valid(step)[n] - 1 for n, x in done.valid(step).items()}
        for step in (REFIT, STEPS)
    }
    shown = {step: {n: f"{100 * x:+.2f}%" for n, x in of.items()} for step, of in off.items()}
    print(f"\n{recipe}: valid against bf16 {shown}, weights {done.stages[1].weights}")
    for step, far in ((REFIT, 0.01), (STEPS, 0.03)):  # then weights differ a little too
        assert off[step].keys() == set(LANGUAGES)
        assert all(abs(x) < far for x in off[step].values())


def fp8_modules(run: Run) -> list[Any]:
    """The engine's modules that have multiplied in FP8."""
    found = [m for m in run.training.model.bare.modules() if getattr(m, "fp8_meta", None)]
    return [m for m in found if m.fp8_meta.get("fp8_checkpoint") and hasattr(m, "weight")]


# Checkpoints.


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_fp8_run_goes_on_as_if_undisturbed(run: Callable[[str], Run], recipe: str) -> None:
    """As if killed right after the checkpoint, with nothing of the steps beyond it written."""
    calm = run(recipe)
    folder = calm.folder.with_name(f"{recipe}-again")
    shutil.copytree(calm.folder, folder)
    shutil.rmtree(folder / "checkpoints" / f"step-{STEPS:08d}")
    rows = (folder / "losses.jsonl").read_text().splitlines(keepends=True)
    kept = [row for row in rows if json.loads(row)["step"] <= SAVED]
    assert 0 < len(kept) < len(rows)
    (folder / "losses.jsonl").write_text("".join(kept))
    plan = folder.with_name("plan.toml")
    again = trained(plan, folder, **keys_of(recipe))
    assert (folder / "schedule.jsonl").read_text() == (calm.folder / "schedule.jsonl").read_text()
    off = max(furthest(calm, again, split) for split in ("train", "valid"))
    print(f"\n{recipe}: {STEPS - SAVED} steps after a resume differ by at most {100 * off:.3f}%")
    assert off < 0.01


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_checkpoint_holds_all_of_an_fp8_run(run: Callable[[str], Run], recipe: str) -> None:
    calm = run(recipe)
    plan = read_plan(calm.folder.with_name("plan.toml")).with_trainer(keys_of(recipe))
    loaded = Run(calm.folder, Training(plan, calm.folder, HERE, None))
    loaded.training.staged.end()
    ours, theirs = calm.training.model, loaded.training.model
    for mine, other in zip(ours.bare.parameters(), theirs.bare.parameters(), strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(moments(ours), moments(theirs), strict=True):
        assert torch.equal(mine, other)
    ours_fp8, theirs_fp8 = fp8_modules(calm), fp8_modules(loaded)
    assert len(ours_fp8) == len(theirs_fp8) == 4 * MODEL["layers"]
    if recipe == "delayed":
        for mine, other in zip(ours_fp8, theirs_fp8, strict=True):
            for way in ("scaling_fwd", "scaling_bwd"):
                assert torch.equal(mine.fp8_meta[way].scale, other.fp8_meta[way].scale)
                history = mine.fp8_meta[way].amax_history
                assert history.any(), "it was used"
                assert torch.equal(history, other.fp8_meta[way].amax_history)


def moments(model: Any) -> list[Any]:
    """Adam's two of each weight."""
    optimizer = model.optimizer.chained_optimizers[0].optimizer
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    return [optimizer.state[p][name] for p in weights for name in ("exp_avg", "exp_avg_sq")]


# Against other ways to compute the same.


def test_fp32_and_bf16_against_the_cpu(short: Callable[[str], Run]) -> None:
    off = {name: furthest(short("cpu"), short(name)) for name in ("fp32", "bf16-short")}
    print(f"\nagainst fp32 on the CPU after {SHORT} steps: {off}")
    assert off["fp32"] < 2e-3  # the engine multiplies fp32 in TF32
    assert off["bf16-short"] < 0.02


def test_a_gpu_without_the_engine(short: Callable[[str], Run]) -> None:
    off = furthest(short("cpu"), short("plain"))
    print(f"\nfp32 without the engine against the CPU: {off}")
    assert off < 1e-3


def test_torchrun_with_loader_processes(short: Callable[[str], Run]) -> None:
    assert furthest(short("cpu"), short("torchrun")) < 0.05


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_default_shape(code: Path, recipe: str) -> None:
    """Sizes by ``run.params``; ffn is no multiple of FP8's blocks of 128."""
    stages = {4: '"uniform"'}
    plan = write_plan(code, f"shape-{recipe}", stages, 4, 128, validation_interval=0)
    done = trained(plan, code / f"shape-{recipe}", **keys_of(recipe))
    assert done.training.shape.ffn % 128
    assert all(math.isfinite(o.loss) and o.loss < 9 for o in done.losses)


def test_sizes_that_fp8_cannot_multiply(code: Path) -> None:
    plan = write_plan(code, "odd", {4: '"uniform"'}, 4, 128, hidden=64, layers=2, ffn=168)
    with pytest.raises(InputError, match=r"trainer\.ffn: .* multiple of 16"):
        trained(plan, code / "odd", precision="fp8")


# What waits for the GPU.


@pytest.fixture
def training(code: Path) -> Iterator[Any]:
    """A run in bf16 after its first steps, far from the next log interval and from any stage."""
    sizes = {"hidden": 256, "layers": 2, "micro_batch": 4, "validation_interval": 0}
    plan = write_plan(
        code, "waits", {500: '"uniform"'}, 8, 128, **sizes, precision="bf16", log_interval=100
    )
    shutil.rmtree(code / "waits", ignore_errors=True)
    made = Training(read_plan(plan), code / "waits", HERE, None)
    forward = made.staged.measured.wrap_forward_step(made._forward_step)
    for _ in range(5):
        made._step(forward)
    yield made
    made.staged.end()


def test_nothing_of_the_plugin_waits(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch raises where the host would wait for the GPU."""
    called: list[str] = []

    def strict(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            called.append(method.__name__)
            torch.cuda.set_sync_debug_mode("error")
            try:
                return method(*args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return call

    measured = training.staged.measured
    for name in ("_add", "_languages", "begin_step", "commit_step", "tap", "wrap_loss"):
        monkeypatch.setattr(measured, name, strict(getattr(measured, name)))
    monkeypatch.setattr(training.staged, "after_step", strict(training.staged.after_step))
    forward = measured.wrap_forward_step(training._forward_step)
    for _ in range(5):
        training._step(forward)
    assert called.count("_add") == called.count("_languages") == 2 * 5, "two microbatches"
    with pytest.raises(RuntimeError, match="synchronizing"):
        strict(torch.Tensor.item)(torch.ones((), device=HERE))


def test_no_more_waits_in_a_profile(training: Any) -> None:
    """The same steps with the plugin and without: what the host waits for, and what it copies."""
    forward = training.staged.measured.wrap_forward_step(training._forward_step)

    def without() -> None:
        training.model.step(training._forward_step, training._batches, training.microbatches)

    found = {
        name: counts(step)
        for name, step in (("with", lambda: training._step(forward)), ("without", without))
    }
    print(f"\nin {PROFILED} steps: {found}")
    for name in ("synchronizations", "copies to the host"):
        assert found["with"][name] == found["without"][name]
    assert found["with"]["kernels"] > found["without"]["kernels"] > 0


PROFILED = 5


def counts(step: Callable[[], None]) -> dict[str, int]:
    step()
    torch.cuda.synchronize()
    activities = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activities.CPU, activities.CUDA]) as profile:
        for _ in range(PROFILED):
            step()
    names = [event.name for event in profile.events()]
    kinds: dict[str, Callable[[str], bool]] = {
        "synchronizations": lambda n: n.startswith("cuda") and "Synchronize" in n,
        "copies to the host": lambda n: n.startswith("Memcpy DtoH"),
        "copies to the GPU": lambda n: n.startswith("Memcpy HtoD"),
        "kernels": lambda n: "LaunchKernel" in n,
    }
    return {kind: sum(map(of, names)) for kind, of in kinds.items()}

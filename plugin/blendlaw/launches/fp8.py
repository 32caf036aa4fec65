"""Whether the machine can do what a command asks: recipes of FP8, scales, sizes of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from blendlaw.launches.flags import Findings, Launch, error, warning
from blendlaw.launches.parallel import up
from blendlaw.nearest import nearest
from blendlaw.precision import HOPPER, RECIPES, Recipe, Version, lacks

AMAX = ("fp8-amax-history-len", "fp8-amax-compute-algo")
OWN = ("fp8-param-gather", "fp8-recipe", "fp8-margin", *AMAX)


@dataclass(frozen=True)
class Machine:
    """What is known of where the command is to run; a GPU is taken to be Hopper.

    ``fused``: whether apex's kernel for weight gradients is there.
    """

    capability: Version = HOPPER
    engine: Version | None = None
    cuda: Version | None = None
    fused: bool | None = None


def recipe_of(launch: Launch) -> Recipe | None:
    """The FP8 recipe of ``launch``; None without FP8, or with a recipe of the user's own."""
    if not launch.has("fp8-format"):
        return None
    return RECIPES.get(launch.text("fp8-recipe", "delayed"))


def recipe(launch: Launch, machine: Machine) -> Findings:
    if not launch.has("fp8-format"):
        for flag in OWN:
            if launch.has(flag):
                problem = "without --fp8-format nothing is in FP8"
                level = error if flag == "fp8-param-gather" else warning
                yield level(f"--{flag}", problem, "add --fp8-format hybrid, or leave it out")
        return
    name = launch.text("fp8-recipe", "delayed")
    known = [each for each in RECIPES if each != "bf16"]
    if name not in (*known, "custom"):
        problem = f"no recipe is called {name!r}{nearest(name, known)}"
        yield error("--fp8-recipe", problem, f"set one of {', '.join(known)}")
        return
    chosen = RECIPES.get(name)
    if chosen is None:
        return
    missed = lacks(chosen, machine.capability, machine.engine, machine.cuda, launch.megatron)
    if missed:
        instead = "blockwise or tensorwise" if name == "mxfp8" else "tensorwise or delayed"
        problem = f"{name} needs {', '.join(missed)}"
        yield error("--fp8-recipe", problem, f"set --fp8-recipe {instead}")


def around(launch: Launch, machine: Machine) -> Findings:
    """What else must be set for FP8, or must not."""
    if not launch.has("fp8-format"):
        return
    if launch.text("transformer-impl", "transformer_engine") == "local":
        problem = "its layers are of plain torch: FP8 needs Transformer Engine's"
        yield error("--transformer-impl", problem, "set --transformer-impl transformer_engine")
    if not launch.has("bf16") and not launch.has("fp16"):
        problem = "what is not in FP8 is in 32 bits without it"
        yield warning("--bf16", problem, "add --bf16")
    if launch.has("fp4-format"):
        yield error("--fp4-format", "it cannot go with --fp8-format", "leave one of them out")


def scales(launch: Launch, machine: Machine) -> Findings:
    """Delayed scaling goes by a history of the largest values; the others have none."""
    if not launch.has("fp8-format"):
        return
    delayed = launch.text("fp8-recipe", "delayed") == "delayed"
    if not delayed:
        for flag in AMAX:
            if launch.has(flag):
                problem = f"--fp8-recipe {launch.text('fp8-recipe')} has no history"
                yield warning(f"--{flag}", problem, "leave it out")
        if launch.has("optimizer-cpu-offload") and launch.has("fp8-param-gather"):
            problem = "with --fp8-param-gather it needs --fp8-recipe delayed"
            yield error("--optimizer-cpu-offload", problem, "leave one of the two out")
        return
    if launch.has("first-last-layers-bf16"):
        problem = "delayed scaling cannot leave layers out"
        yield error("--first-last-layers-bf16", problem, "set --fp8-recipe tensorwise")
    length = launch.number("fp8-amax-history-len", 1)
    if length < 2:
        problem = f"{length} scales by the last step alone"
        yield warning("--fp8-amax-history-len", problem, "set --fp8-amax-history-len 1024")
    elif launch.text("fp8-amax-compute-algo", "most_recent") != "max":
        problem = f"most_recent looks at one of the {length} steps"
        yield warning("--fp8-amax-compute-algo", problem, "set --fp8-amax-compute-algo max")


def sizes(launch: Launch, machine: Machine) -> Findings:
    """Every matrix that is multiplied: both of its sizes, on a rank."""
    chosen = recipe_of(launch)
    if chosen is None:
        return
    for flag, what, size, parts, ranks in _matrices(launch):
        if size % ranks:
            continue  # another rule's affair
        on_rank = size // ranks
        told = f"{what} {size} / {parts} {ranks} = {on_rank}" if ranks > 1 else f"{what} {size}"
        if on_rank % chosen.multiple:
            problem = f"{told} is not a multiple of {chosen.multiple}, as {chosen.name} needs"
            yield error(flag, problem, _change(launch, flag, chosen.multiple, ranks))
        elif on_rank % chosen.block:
            problem = f"{told} is not in whole blocks of {chosen.block}"
            yield warning(flag, problem, _change(launch, flag, chosen.block, ranks))


def _matrices(launch: Launch) -> Iterator[tuple[str, str, int, str, int]]:
    """(flag, what is counted, how many there are, over which ranks they are split, how many)."""
    tensor = launch.tensor
    yield "--hidden-size", "hidden", launch.number("hidden-size"), "", 1
    if not launch.has("num-experts") or launch.has("moe-layer-freq"):
        yield "--ffn-hidden-size", "ffn", launch.ffn, "TP", tensor
    if launch.has("num-experts"):
        experts = launch.number("expert-tensor-parallel-size", tensor)
        ffn = launch.number("moe-ffn-hidden-size", launch.ffn)
        yield "--moe-ffn-hidden-size", "ffn", ffn, "ETP", experts
    if not launch.has("multi-latent-attention"):
        yield "--kv-channels", "heads × channels", launch.heads * launch.head_size, "TP", tensor
    tokens = launch.number("micro-batch-size") * launch.number("seq-length")
    parts = launch.context * (tensor if launch.has("sequence-parallel") else 1)
    yield "--seq-length", "tokens of a microbatch", tokens, "(CP × TP)", parts


def _change(launch: Launch, flag: str, multiple: int, ranks: int) -> str:
    """The next larger value of ``flag`` that comes to a multiple of it on each of the ranks."""
    if flag == "--kv-channels":
        value, times = launch.head_size, launch.heads
    elif flag == "--seq-length":
        value, times = launch.number("seq-length"), launch.number("micro-batch-size")
    else:
        ffn = None if flag == "--hidden-size" else launch.ffn
        value, times = launch.number(flag[2:], ffn), 1
    whole = multiple * ranks
    return f"set {flag} {up(value, whole // gcd(whole, times))}"


def gradients(launch: Launch, machine: Machine) -> Findings:
    """Megatron's own output layer (tensor_parallel/layers.py) raises without apex's kernel."""
    flag = "no-gradient-accumulation-fusion"
    if machine.fused is False and not launch.has(flag):
        problem = "apex's fused_weight_gradient_mlp_cuda is not here"
        yield error(f"--{flag}", problem, "add it, or build apex")


RULES = (recipe, around, scales, sizes, gradients)

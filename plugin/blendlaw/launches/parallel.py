"""Whether a layout of ranks fits the model, the batch and the GPUs.

Each rule is named after what asserts it in Megatron-LM: validate_args of
``megatron/training/arguments.py`` unless another file of ``megatron/core`` is told.
"""

from __future__ import annotations

from math import lcm

from blendlaw.launches.flags import Findings, Launch, error, warning

TENSOR, PIPELINE = "--tensor-model-parallel-size", "--pipeline-model-parallel-size"
VIRTUAL = "num-layers-per-virtual-pipeline-stage"
UNEVEN = (
    "decoder-first-pipeline-num-layers",
    "decoder-last-pipeline-num-layers",
    "pipeline-model-parallel-layout",
    "num-virtual-stages-per-pipeline-rank",
    "hybrid-layer-pattern",
    "hybrid-override-pattern",
)
SHARDED = ("use-megatron-fsdp", "use-torch-fsdp2")


def up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


def divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` up to ``most``, as far as such are of use."""
    most = min(most, number, 1 << 16)
    return next(each for each in range(most, 0, -1) if number % each == 0)


def ranks(launch: Launch) -> Findings:
    """World size in whole copies of the model; so parallel_state.py for the experts."""
    each = launch.tensor * launch.pipeline * launch.context
    if launch.ranks is not None and launch.ranks % each:
        parts = f"TP {launch.tensor} × PP {launch.pipeline} × CP {launch.context} = {each}"
        change = f"start {up(launch.ranks, each)} ranks, or set a smaller one"
        yield error(TENSOR, f"{launch.ranks} GPUs are not a multiple of {parts}", change)
    experts = launch.number("expert-model-parallel-size", 1)
    if launch.ranks is not None and experts > 1:
        tensor = launch.number("expert-tensor-parallel-size", launch.tensor)
        each = experts * tensor * launch.pipeline
        if launch.ranks % each:
            parts = f"EP {experts} × ETP {tensor} × PP {launch.pipeline} = {each}"
            change = f"start {up(launch.ranks, each)} ranks, or set a smaller one"
            problem = f"{launch.ranks} GPUs are not a multiple of {parts}"
            yield error("--expert-model-parallel-size", problem, change)


def experts(launch: Launch) -> Findings:
    """moe_layer.py asks for sequence parallelism."""
    parallel = launch.number("expert-model-parallel-size", 1)
    if not launch.has("num-experts"):
        if parallel > 1:
            problem = "without --num-experts there are none"
            yield error("--expert-model-parallel-size", problem, "leave it out")
        return
    count = launch.number("num-experts")
    if count % parallel:
        problem = f"{count} experts are not a multiple of --expert-model-parallel-size {parallel}"
        yield error("--num-experts", problem, f"set --num-experts {up(count, parallel)}")
    if launch.tensor > 1 and not launch.has("sequence-parallel"):
        problem = "experts with tensor parallelism train only with it"
        yield error("--sequence-parallel", problem, "add --sequence-parallel")


def batch(launch: Launch) -> Findings:
    """num_microbatches_calculator.py; schedules.py for an interleaved pipeline."""
    micro, whole = launch.number("micro-batch-size"), launch.global_batch
    each = micro * launch.data_parallel
    if whole % each:
        problem = (
            f"{whole} is not a multiple of --micro-batch-size {micro} × "
            f"{launch.data_parallel} data-parallel ranks"
        )
        yield error("--global-batch-size", problem, f"set --global-batch-size {up(whole, each)}")
    elif launch.has(VIRTUAL) and whole // each % launch.pipeline:
        problem = f"{whole // each} microbatches are not a multiple of the {launch.pipeline} stages"
        change = f"set --global-batch-size {up(whole, each * launch.pipeline)}"
        yield error("--global-batch-size", f"{problem}, which are interleaved", change)


def layers(launch: Launch) -> Findings:
    if any(launch.has(flag) for flag in UNEVEN):
        return
    count, stages = launch.number("num-layers"), launch.pipeline
    extra = sum(
        launch.has(f"account-for-{part}-in-pipeline-split") for part in ("embedding", "loss")
    )
    if (count + extra) % stages:
        also = f" and {extra} more" if extra else ""
        problem = f"{count}{also} are not a multiple of {PIPELINE} {stages}"
        yield error(
            "--num-layers", problem, f"set --num-layers {up(count + extra, stages) - extra}"
        )
        return
    if launch.has(VIRTUAL):
        each, of_stage = launch.number(VIRTUAL), (count + extra) // stages
        if stages == 1:
            yield error(f"--{VIRTUAL}", f"it needs {PIPELINE} above 1", "leave it out")
        elif of_stage % each:
            problem = f"the {of_stage} layers of a stage are not a multiple of {each}"
            yield error(f"--{VIRTUAL}", problem, f"set --{VIRTUAL} {divisor(of_stage, each)}")


def heads(launch: Launch) -> Findings:
    """transformer_config.py."""
    count, tensor = launch.heads, launch.tensor
    if count % tensor:
        problem = f"{count} are not a multiple of {TENSOR} {tensor}"
        yield error("--num-attention-heads", problem, f"set {TENSOR} {divisor(count, tensor)}")
    if launch.has("num-query-groups") and not launch.has("group-query-attention"):
        problem = "it counts only with --group-query-attention"
        yield warning("--num-query-groups", problem, "add --group-query-attention")
    groups = launch.groups
    fewer = launch.megatron is None or launch.megatron > (0, 12)  # 0.12 shares none of them
    divides = groups % tensor == 0 or (tensor % groups == 0 and fewer)
    if not launch.has("multi-latent-attention") and not divides and count % tensor == 0:
        problem = f"{groups} are neither a multiple nor a divisor of {TENSOR} {tensor}"
        yield error("--num-query-groups", problem, f"set --num-query-groups {up(groups, tensor)}")
    if count % groups:
        problem = f"{count} heads are not a multiple of it"
        yield error(
            "--num-query-groups", problem, f"set --num-query-groups {divisor(count, groups)}"
        )


def widths(launch: Launch) -> Findings:
    hidden, tensor = launch.number("hidden-size"), launch.tensor
    if not launch.has("kv-channels") and hidden % launch.heads:
        problem = f"{hidden} is not a multiple of --num-attention-heads {launch.heads}"
        yield error("--hidden-size", problem, f"set --hidden-size {up(hidden, launch.heads)}")
    if launch.ffn % tensor:
        problem = f"{launch.ffn} is not a multiple of {TENSOR} {tensor}"
        change = f"set --ffn-hidden-size {up(launch.ffn, tensor)}"
        yield error("--ffn-hidden-size", problem, change)


def sequence(launch: Launch) -> Findings:
    """mappings.py splits the sequence over the tensor-parallel ranks."""
    length, tensor, context = launch.number("seq-length"), launch.tensor, launch.context
    halves = 2 * context if context > 1 else 1
    parts = tensor * context if launch.has("sequence-parallel") else 1
    change = f"set --seq-length {up(length, lcm(halves, parts))}"
    if length % halves:
        problem = f"{length} is not a multiple of 2 × --context-parallel-size {context}"
        yield error("--seq-length", problem, change)
    elif length % parts:
        problem = f"{length} cannot be split over {parts} ranks by --sequence-parallel"
        yield error("--seq-length", problem, change)
    positions = launch.number("max-position-embeddings")
    if positions < length:
        problem = f"{positions} is less than --seq-length {length}"
        change = f"set --max-position-embeddings {length}"
        yield error("--max-position-embeddings", problem, change)


def sequence_parallel(launch: Launch) -> Findings:
    on = launch.has("sequence-parallel")
    if on and launch.tensor == 1:
        problem = f"Megatron switches it off with {TENSOR} 1"
        yield warning("--sequence-parallel", problem, "leave it out")
    if launch.has("tp-comm-overlap") and (not on or launch.tensor == 1):
        problem = "it needs --sequence-parallel and tensor parallelism"
        yield error("--tp-comm-overlap", problem, "add --sequence-parallel, or leave it out")


def connections(launch: Launch) -> Findings:
    """On GPUs before Blackwell."""
    name = "CUDA_DEVICE_MAX_CONNECTIONS"
    value = launch.variables[name]
    if any(launch.has(flag) for flag in SHARDED):
        if value == "1":
            yield error(name, "FSDP refuses 1", f"unset {name}")
    elif (launch.tensor > 1 or launch.context > 1) and value != "1":
        problem = "Megatron refuses tensor and context parallelism without 1, before Blackwell"
        if value is None:
            yield warning(name, f"the script does not set it: {problem}", f"export {name}=1")
        elif "\0" not in value:
            yield error(name, f"it is {value}: {problem}", f"export {name}=1")


RULES = (
    ranks,
    experts,
    batch,
    layers,
    heads,
    widths,
    sequence,
    sequence_parallel,
    connections,
)

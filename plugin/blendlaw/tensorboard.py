"""Observations from TensorBoard event files, the logs that Megatron and most trainers write."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.observations import Observation
from blendlaw.rows import OnBad, refuse
from blendlaw.values import number

# Megatron logs each loss under further tags of these endings: over samples, on validation data.
MEGATRON_ENDINGS = (" vs samples", " validation", " ppl")
_FRAME = 16  # bytes around a record: length, its checksum, the record's checksum

Say = Callable[[str], None]


def is_tensorboard(path: str | Path) -> bool:
    """Whether ``path`` is a folder or is named as TensorBoard names its event files."""
    return Path(path).is_dir() or "tfevents" in Path(path).name


def read_tensorboard(
    path: str | Path,
    *,
    pattern: str,
    params: float,
    tokens_per_step: float | None = None,
    tokens_tag: str | None = None,
    weights: Mapping[str, float] | None = None,
    on_bad: OnBad = refuse,
    say: Say = lambda message: None,
) -> list[Observation]:
    """The scalars named by ``pattern`` in an event file, or in all below a folder.

    ``pattern`` is a tag with ``{language}`` in it, the rest literal: ``lm loss/{language}``. Give
    ``tokens_per_step`` (tokens = step × tokens_per_step; for a tag over samples, the sequence
    length) or ``tokens_tag``, a scalar logged at the same steps. ``params`` and ``weights`` (what
    the run saw of each language) are those of every run. A run is a folder, named relative to
    ``path``; steps that a restarted run took again replace the earlier ones; step 0 has seen no
    tokens and is left out. ``say`` gets remarks, such as a last record still being written.
    Raises InputError (or gives it to ``on_bad``, for one value), OSError.
    """
    matches = _matcher(pattern)
    if (tokens_per_step is None) == (tokens_tag is None):
        raise InputError("give either tokens per step or the tag of the tokens")

    def wanted(tag: str) -> bool:
        return tag == tokens_tag or matches(tag) is not None

    root = Path(path)
    observations: list[Observation] = []
    for run, files in _runs(root).items():
        series: dict[str, dict[int, float]] = {}
        for file in files:
            for tag, step, value in _scalars(file, wanted, say, on_bad):
                _put(series.setdefault(tag, {}), step, value)
        seen = series.get(tokens_tag, {}) if tokens_tag is not None else {}
        languages = {tag: language for tag in series if (language := matches(tag))}
        if weights is None and len(languages) > 1:
            say(
                f"{run}: {len(languages)} languages, and no weights to say what the run saw of "
                "each: every one is taken to have had all the tokens"
            )
        for tag, language in languages.items():
            for step, loss in series[tag].items():
                if step == 0:
                    continue
                try:
                    if tokens_per_step is not None:
                        tokens = step * number(tokens_per_step, "tokens per step")
                    elif step in seen:
                        tokens = seen[step]
                    else:
                        raise InputError(f"step {step} has no value of {tokens_tag!r}", column=tag)
                    observation = Observation(
                        language, params, tokens, loss, weights=weights, run=run, step=step
                    )
                except InputError as error:
                    error.problem += f" at step {step} of {tag!r}"
                    error.file = files[-1] if len(files) == 1 else files[-1].parent
                    on_bad(error)
                else:
                    observations.append(observation)
    if not observations:
        raise InputError(f"no scalar matches {pattern!r} after step 0", file=root)
    return observations


def _matcher(pattern: str) -> Callable[[str], str | None]:
    before, hole, after = pattern.partition("{language}")
    if not hole or "{language}" in after:
        raise InputError("a pattern must have {language} in it once", value=pattern)
    tag_pattern = re.compile(re.escape(before) + "(.+)" + re.escape(after), re.DOTALL)

    def matches(tag: str) -> str | None:
        found = tag_pattern.fullmatch(tag)
        return found[1] if found and not found[1].endswith(MEGATRON_ENDINGS) else None

    return matches


def _runs(root: Path) -> dict[str, list[Path]]:
    """Event files by run, in the order they were written: their names begin with the time."""
    if not root.exists():
        raise FileNotFoundError(2, "No such file or directory", str(root))
    if root.is_file():
        return {root.absolute().parent.name or "run": [root]}
    runs: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*tfevents*")):
        if file.is_file():
            folder = file.parent.relative_to(root).as_posix()
            run = folder if folder != "." else root.absolute().name or "run"
            runs.setdefault(run, []).append(file)
    if not runs:
        raise InputError("no TensorBoard event file in this folder", file=root)
    return runs


def _put(series: dict[int, float], step: int, value: float) -> None:
    """Add a value; a step not after the last one is a restart, and takes back what came later."""
    while series and next(reversed(series)) >= step:
        series.popitem()
    series[step] = value


def _scalars(
    file: Path, wanted: Callable[[str], bool], say: Say, on_bad: OnBad
) -> Iterator[tuple[str, int, float]]:
    try:
        loader = import_module("tensorboard.backend.event_processing.event_file_loader")
        event_pb2 = import_module("tensorboard.compat.proto.event_pb2")
    except ImportError as error:
        raise InputError(
            "reading TensorBoard logs needs its package: pip install tensorboard"
        ) from error
    decode_error: type[Exception] = import_module("google.protobuf.message").DecodeError
    size = file.stat().st_size
    read = 0
    try:
        for record in loader.RawEventFileLoader(str(file)).Load():
            read += len(record) + _FRAME
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if wanted(value.tag) and (scalar := _scalar(value)) is not None:
                    yield value.tag, event.step, scalar
    except (MemoryError, OverflowError, decode_error):
        on_bad(InputError(f"a record that is no event, {read:,} bytes into the file", file=file))
        return
    if read < size:
        if _is_cut_off(file, read, size):
            say(f"{file}: the last record is cut off (a run still writing?): left out")
        else:
            on_bad(InputError(f"damaged {read:,} bytes into the file", file=file))


def _scalar(value: Any) -> float | None:
    """Of a Summary.Value: PyTorch writes ``simple_value``, TensorFlow 2 tensors of one element."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind == "tensor" and all(dim.size == 1 for dim in value.tensor.tensor_shape.dim):
        try:
            array = import_module("tensorboard.util.tensor_util").make_ndarray(value.tensor)
        except (TypeError, ValueError):  # of a type or with a content that is no number
            return None
        return float(array.item()) if array.size == 1 and array.dtype.kind in "fiu" else None
    return None


def _is_cut_off(file: Path, start: int, size: int) -> bool:
    """Whether the file ends within the record that begins at ``start``."""
    with open(file, "rb") as stream:
        stream.seek(start)
        head = stream.read(12)
    if len(head) < 12:
        return True
    records = import_module("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    length, checksum = struct.unpack("<QI", head)
    return bool(records.masked_crc32c(head[:8]) == checksum and start + length + _FRAME > size)

"""Packing 100,000 translation pairs, beside TRL and Megatron-Bridge, and ten million alone.

A pair is a program and its translation, which is longer or shorter by some 20% (log-normal, σ .2).
Lengths of programs are log-normal (median 300 tokens, σ 1.1), or with ``--data`` drawn from the
documents of Megatron's indexed files. Pairs that are longer than a sequence are left out.

TRL (best-fit-decreasing) takes part where it is installed, Megatron-Bridge (first-fit-decreasing)
where ``--bridge`` names a checkout. TRL's inner function is called, and since it moves tokens too
it gets nulls, which have a length and nothing to be copied. Megatron-Bridge gets lengths and
returns lengths; telling which document is where would be more work.

    python tests/benchmarks/packing.py --data corpus/*_train.idx --bridge Megatron-Bridge
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
from measure import arguments, cpu, in_turn, report
from numpy.typing import NDArray

from blendlaw.indexed import read_documents
from blendlaw.packing import pack

Ints = NDArray[np.int64]
Peer = Callable[[Ints, int], Callable[[], int]]
"""From lengths and a capacity to a call that packs and returns the number of bins."""


def pairs(count: int, capacity: int, programs: Ints | None) -> Ints:
    """Tokens of ``count`` pairs of up to ``capacity`` tokens, [count]."""
    generator = np.random.default_rng(0)
    found: list[Ints] = []
    while (missing := count - sum(map(len, found))) > 0:
        drawn = min(missing, 1 << 20)  # what is measured is not the memory for this
        if programs is None:
            source = np.rint(generator.lognormal(np.log(300), 1.1, drawn))
        else:
            source = programs[generator.integers(len(programs), size=drawn)]
        both = (source + np.rint(source * generator.lognormal(0, 0.2, drawn))).astype(np.int64)
        found.append(both[(both >= 1) & (both <= capacity)])
    return np.concatenate(found)


def trl() -> Peer:
    import pyarrow
    from trl.data_utils import _pack_bfd

    def prepare(lengths: Ints, capacity: int) -> Callable[[], int]:
        ends = pyarrow.array(np.append(0, np.cumsum(lengths)), pyarrow.int32())
        nulls = pyarrow.nulls(int(lengths.sum()))
        table = pyarrow.table({"input_ids": pyarrow.ListArray.from_arrays(ends, nulls)})
        return lambda: len(_pack_bfd(table, capacity))

    return prepare


def bridge(checkout: Path) -> Peer:
    # The one import that needs the rest of the package, and is not about packing.
    beside = ModuleType("safe_pickle")
    beside.safe_load_npy = None
    sys.modules["megatron.bridge.utils.safe_pickle"] = beside
    path = checkout / "src/megatron/bridge/data/packing/algorithms.py"
    spec = spec_from_file_location("algorithms", path)
    assert spec is not None
    assert spec.loader is not None
    algorithms = module_from_spec(spec)
    spec.loader.exec_module(algorithms)

    def prepare(lengths: Ints, capacity: int) -> Callable[[], int]:
        listed = lengths.tolist()
        return lambda: len(algorithms.first_fit_decreasing(listed, capacity))

    return prepare


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=10_000_000, help="documents without peers")
    parser.add_argument("--capacity", type=int, nargs="+", default=[2048, 4096, 8192, 32768])
    parser.add_argument("--data", type=Path, nargs="+", help=".idx files to draw lengths from")
    parser.add_argument("--bridge", type=Path, help="a checkout of Megatron-Bridge")
    given = parser.parse_args()
    programs = None
    if given.data:
        documents = [d for path in given.data for d in read_documents(path.with_suffix(""))]
        programs = np.array([len(document) for document in documents])

    figures: dict[str, float | str] = {}
    # Before the peers, whose memory would count.
    for capacity in given.capacity:
        found = _alone(pairs(given.large, capacity, programs), capacity)
        figures |= {f"{given.large:,} into {capacity}: {k}": v for k, v in found.items()}
    peers: dict[str, Peer] = {}
    try:
        peers["TRL"] = trl()
    except ImportError as error:
        figures["TRL"] = f"skipped: {error}"
    if given.bridge:
        peers["Megatron-Bridge"] = bridge(given.bridge)
    else:
        figures["Megatron-Bridge"] = "skipped: no --bridge"
    for capacity in given.capacity:
        lengths = pairs(given.documents, capacity, programs)
        compared = _compared(lengths, capacity, peers, given.repeats)
        figures |= {f"{capacity}: {k}": v for k, v in compared.items()}
    report(f"packing {given.documents:,} pairs", figures, given.json)


def _alone(lengths: Ints, capacity: int) -> dict[str, float]:
    begin = time.perf_counter()
    seconds, packing = cpu(lambda: pack(lengths, capacity))
    elapsed = time.perf_counter() - begin
    return {
        "CPU s": seconds,
        "elapsed s": elapsed,
        "filled, %": 100 * packing.filled,
        "GB at most, this process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _compared(
    lengths: Ints, capacity: int, peers: dict[str, Peer], repeats: int
) -> dict[str, float | str]:
    packing = pack(lengths, capacity)
    ready = {name: prepare(lengths, capacity) for name, prepare in peers.items()}
    ours, *theirs = in_turn(repeats, lambda: pack(lengths, capacity), *ready.values())
    figures: dict[str, float | str] = {
        "filled, %": f"{100 * packing.filled:.3f}",
        "fillable, %": f"{100 * packing.fillable:.3f}",
        "bins": f"{packing.bins}",
        "bins, at least": f"{packing.bound}",
        "CPU s": ours,
    }
    for (peer, run), seconds in zip(ready.items(), theirs, strict=True):
        figures |= {
            f"{peer}, bins": f"{run()}",
            f"{peer}, CPU s": seconds,
            f"times faster than {peer}": seconds / ours,
        }
    return figures


if __name__ == "__main__":
    main()

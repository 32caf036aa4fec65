"""Code of seven languages to try things on: real from package registries, or generated."""

from blendlaw.samplecode.fetching import fetch
from blendlaw.samplecode.generated import generate
from blendlaw.samplecode.manifest import Manifest, ParallelCode
from blendlaw.samplecode.pairs import fetch_pairs
from blendlaw.samplecode.parallel import generate_parallel
from blendlaw.samplecode.registries import Unavailable
from blendlaw.samplecode.sample import SampleCode, sample_code

__all__ = [
    "Manifest",
    "ParallelCode",
    "SampleCode",
    "Unavailable",
    "fetch",
    "fetch_pairs",
    "generate",
    "generate_parallel",
    "sample_code",
]

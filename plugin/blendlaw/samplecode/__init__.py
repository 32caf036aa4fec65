"""Code of seven languages to try things on: real from package registries, or generated."""

from blendlaw.samplecode.fetching import fetch
from blendlaw.samplecode.generated import generate
from blendlaw.samplecode.manifest import Manifest
from blendlaw.samplecode.parallel import generate_parallel
from blendlaw.samplecode.registries import Unavailable
from blendlaw.samplecode.sample import SampleCode, sample_code

__all__ = [
    "Manifest",
    "SampleCode",
    "Unavailable",
    "fetch",
    "generate",
    "generate_parallel",
    "sample_code",
]

"""``python -m blendlaw.samplecode OUT``: fetch the sample code, or generate some."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.samplecode.fetching import fetch
from blendlaw.samplecode.generated import generate
from blendlaw.samplecode.pairs import fetch_pairs
from blendlaw.samplecode.parallel import generate_parallel
from blendlaw.samplecode.registries import Unavailable


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 with a line on stderr if a language could not be had."""
    parser = argparse.ArgumentParser(prog="python -m blendlaw.samplecode", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--megabytes", type=float, metavar="N", help="text of each language (all there is; 1)"
    )
    parser.add_argument("--generated", action="store_true", help="made up here, no network")
    parser.add_argument("--pairs", action="store_true", help="instead: real translations")
    parser.add_argument(
        "--parallel", type=int, metavar="N", help="instead: N programs made up in all languages"
    )
    options = parser.parse_args(arguments)

    def log(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    try:
        if options.parallel is not None:
            log(f"{generate_parallel(options.out, options.parallel)}: {options.parallel} tasks")
            return 0
        if options.pairs:
            fetch_pairs(options.out, megabytes=options.megabytes, progress=log)
            return 0
        if options.generated:
            generate(options.out, megabytes=options.megabytes or 1.0, progress=log)
            return 0
        manifest = fetch(options.out, megabytes=options.megabytes, progress=log)
    except KeyboardInterrupt:
        return 130
    except (InputError, OSError, Unavailable) as error:
        log(f"samplecode: {error}")
        return 1
    for language, reason in manifest.unavailable.items():
        log(f"samplecode: {language}: {reason}")
    return 1 if manifest.unavailable else 0


if __name__ == "__main__":
    sys.exit(main())

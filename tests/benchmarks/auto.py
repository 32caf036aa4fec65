"""Choosing the law and fitting it to the shipped data, with 1,000 bootstrap refits a language.

420 losses of 7 languages (arXiv 2512.13472, ``blendlaw/data/code7``). There is no peer to compare
with: what else there is fits one given law.

    python tests/benchmarks/auto.py
"""

from __future__ import annotations

from importlib.resources import as_file, files

from measure import arguments, in_turn, report

import blendlaw


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap refits")
    parser.add_argument("--languages", type=int, default=7, help="how many of the languages")
    given = parser.parse_args()
    with as_file(files("blendlaw") / "data" / "code7" / "losses.csv") as path:
        rows = blendlaw.read_observations(path)
    names = list(dict.fromkeys(row.language for row in rows))[: given.languages]
    rows = [row for row in rows if row.language in names]
    fit = blendlaw.fit(rows, "auto")
    whole, choice, one = in_turn(
        given.repeats,
        lambda: blendlaw.fit(rows, "auto", bootstrap=given.draws),
        lambda: blendlaw.fit(rows, "auto"),
        lambda: blendlaw.fit(rows, fit.law),
    )
    chosen = next(c for c in fit.selection if c.law == fit.law)
    report(
        f"auto on {len(rows)} observations of {len(names)} languages",
        {
            f"with {given.draws} refits a language, CPU s": whole,
            "without, CPU s": choice,
            "without choosing, CPU s": one,
            "chosen": fit.law,
            "its error on larger runs than fitted": chosen.error,
        },
        given.json,
    )


if __name__ == "__main__":
    main()

"""How large the demo's run is, and its plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from blendlaw.corpus.result import Corpus

STAGES = {"warm": "uniform", "guided-1": "law", "guided-2": "law"}


@dataclass(frozen=True)
class Size:
    """``megabytes`` of code a language, tokens of the ``vocabulary``, the model's ``layers`` of
    ``hidden``, ``steps`` a stage of ``batch`` samples of ``length`` tokens, on ``ranks``.

    Losses of the first ``unfitted`` steps are not fitted. ``generated`` asks for no network.
    """

    megabytes: float = 2.0
    vocabulary: int = 2048
    layers: int = 2
    hidden: int = 96
    heads: int = 3
    length: int = 256
    batch: int = 16
    steps: int = 200
    unfitted: int = 80
    ranks: int = 2
    generated: bool = False

    @property
    def params(self) -> int:
        """The parameters of the model."""
        from blendlaw.trainer_plan import Trainer, shape

        sizes = Trainer(layers=self.layers, hidden=self.hidden, heads=self.heads)
        return shape(sizes, 0.0, self.vocabulary).params

    @property
    def tokens(self) -> int:
        """The tokens of a stage."""
        return self.steps * self.batch * self.length


def plan_text(size: Size, corpus: Corpus, folder: Path) -> str:
    """plan.toml of a run on ``corpus``, which lies in ``folder``."""
    every = max(1, size.steps // 10)
    lines = [
        "# Three stages of a tiny model: the first with uniform weights, the others by what was",
        "# measured until then. The keys are in docs/files.md.",
        "",
        "[run]",
        f"params = {size.params}",
        f"sequence_length = {size.length}",
        "",
        "[refit]",
        'split = "valid"  # the same texts each time',
        f'where = "step >= {size.unfitted}"  # the first steps follow no power law',
        "",
        "[trainer]",
        f"layers = {size.layers}",
        f"hidden = {size.hidden}",
        f"heads = {size.heads}",
        f"global_batch = {size.batch}",
        f"micro_batch = {size.batch // size.ranks}",
        "learning_rate = 2.5e-3",
        'schedule = "constant"  # a rate that falls would lower the losses for another reason',
        f"log_interval = {every}",
        f"validation_interval = {every}",
        f"validation_samples = {2 * size.batch}",
        f"checkpoint_interval = {max(1, size.steps // 4)}",
    ]
    for name, parts in corpus.languages.items():
        train, valid = parts["train"], parts["valid"]
        lines += [
            "",
            f"[languages.{json.dumps(name)}]",
            f"sources = [{_path(folder, train.prefix)}]",
            f"valid_sources = [{_path(folder, valid.prefix)}]",
            f"unique_tokens = {train.tokens}",
            f"bytes_per_token = {train.bytes_per_token:.6g}",
            "max_epochs = 4",
            "floor = 0.05",
        ]
    for name, weights in STAGES.items():
        lines += ["", "[[stages]]", f'name = "{name}"', f"tokens = {size.tokens}"]
        lines.append(f'weights = "{weights}"')
    return "\n".join(lines) + "\n"


def _path(folder: Path, prefix: str | None) -> str:
    assert prefix is not None, "each language has texts in both splits"
    return json.dumps(str(folder / prefix), ensure_ascii=False)

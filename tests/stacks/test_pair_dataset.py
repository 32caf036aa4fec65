"""Packed pairs read through Megatron's own datasets: whole, with the kinds and the mask of each."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendlaw.blend import blend
from blendlaw.decide import decide, seen, with_pairs
from blendlaw.errors import InputError
from blendlaw.indexed import IndexedWriter
from blendlaw.layout import lay_out
from blendlaw.pairs.kinds import Kinds, kinds_of
from blendlaw.pairs.plan import PAIRS
from blendlaw.pairs.segments import Segments
from blendlaw.plan import Plan, read_plan
from blendlaw.schedule import Schedule, append

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("megatron.core.datasets.helpers", reason="megatron-core is not installed")

from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig  # noqa: E402
from packed import DIRECTIONS, EOD, LANGUAGES, Packed, pack, write  # noqa: E402
from sources import write_sources  # noqa: E402

from blendlaw_hooks.language_loss import LanguageLoss, zigzag  # noqa: E402
from blendlaw_hooks.pair_dataset import PairLabels  # noqa: E402
from blendlaw_hooks.staged_blend import build_held_out, build_staged_blend  # noqa: E402
from blendlaw_hooks.staged_index import StagedIndex  # noqa: E402

LENGTH = 32


class Tokenizer:
    """What a GPTDataset asks of one."""

    unique_identifiers: ClassVar[dict[str, str]] = {}
    eod, pad, vocab_size = EOD, 63, 64


def config(**changes: Any) -> GPTDatasetConfig:
    return GPTDatasetConfig(
        **{
            "random_seed": 1,
            "sequence_length": LENGTH,
            "tokenizer": Tokenizer(),
            "reset_position_ids": False,
            "reset_attention_mask": False,
            "eod_mask_loss": False,
            "create_attention_mask": False,
        }
        | changes
    )


def plan(folder: Path, stages: str = "", pairs: str = "weight = 0.25") -> Plan:
    """Python and Go, and pairs of them, in ``folder``."""
    lines = ["[run]", "params = 1e6", f"sequence_length = {LENGTH}"]
    for language in LANGUAGES:
        lines += [f"[languages.{language}]", f'sources = ["{folder}/{language}_train"]']
        lines += [f'valid_sources = ["{folder}/{language}_valid"]']
    lines += ["[pairs]", f'sources = ["{folder}/pairs"]', f'valid_sources = ["{folder}/pairs"]']
    lines += [pairs, stages or f'[[stages]]\nname = "all"\ntokens = {LENGTH * 80}']
    lines += ['weights = "uniform"'] * (not stages)
    path = folder / "plan.toml"
    path.write_text("\n".join(lines) + "\n")
    return read_plan(path)


def staged(folder: Path, plan: Plan, samples: int) -> tuple[Any, Schedule]:
    """The blend of the stages of ``plan``, and their schedule."""
    laid = lay_out(plan, samples)
    schedule = Schedule()
    for _ in plan.stages:
        made = decide(plan, laid, schedule, [], 0)
        schedule = append(folder / "schedule.jsonl", made.record)
    index = StagedIndex(laid, folder / "schedule.jsonl", None)
    kinds = kinds_of(plan.languages, [str(folder / "pairs")])
    data = build_staged_blend(GPTDataset, index, config(), lambda: True, kinds)
    return data, schedule


def wanted(made: Packed, kinds: Kinds, row: int) -> tuple[Any, Any]:
    """The kind of each predicted token of a sequence and the mask, straight from the arrays."""
    names = kinds.names
    found, mask = [], []
    for token in range(1, LENGTH):
        language, way = made.language[row, token], made.direction[row, token]
        name = LANGUAGES[language] if language >= 0 else "neither"
        found.append(names.index("->".join(DIRECTIONS[way]) if way >= 0 else name))
        mask.append(float(not made.padding[row, token]))
    return [*found, len(names) - 1], [*mask, 0.0]


lengths = st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), min_size=2, max_size=12)


@settings(deadline=None, max_examples=30)
@given(lengths=lengths, seed=st.integers(0, 1000), epochs=st.integers(1, 4))
def test_every_pair_comes_back_whole(
    lengths: list[tuple[int, int]], seed: int, epochs: int
) -> None:
    made = pack(lengths, LENGTH, seed)
    with TemporaryDirectory() as folder:
        prefix = str(Path(folder, "pairs"))
        write(Path(prefix), made)
        kinds = kinds_of(LANGUAGES, [prefix])
        size = epochs * len(lengths) - 1  # Megatron needs a token behind the last sample
        data = build_held_out(
            GPTDataset, [(prefix, 1.0, PAIRS)], 1, size, config(random_seed=seed), any_rank, kinds
        )
        met: Counter[tuple[int, ...]] = Counter()
        for index in range(size):
            sample = data[index]
            rows = [r for r in range(len(lengths)) if tokens_of(sample) == known(made, r)]
            assert len(rows) >= 1, "cut, or of two sequences"
            matching = [r for r in rows if matches(sample, made, kinds, r)]
            assert matching, "the kinds or the mask are of another sequence"
            met[tuple(tokens_of(sample))] += 1
    every = Counter(tuple(known(made, row)) for row in range(len(lengths)) for _ in range(epochs))
    assert (every - met).total() == 1  # each once an epoch; the last of all is not drawn
    assert not met - every


def any_rank() -> bool:
    return True


def tokens_of(sample: dict[str, Any]) -> list[int]:
    return sample["tokens"].tolist()  # type: ignore[no-any-return]


def known(made: Packed, row: int) -> list[int]:
    """A sequence as a GPTDataset gives it: padding is token 0."""
    return np.where(made.padding[row], 0, made.tokens[row]).tolist()  # type: ignore[no-any-return]


def matches(sample: dict[str, Any], made: Packed, kinds: Kinds, row: int) -> bool:
    found, mask = wanted(made, kinds, row)
    return sample["language_id"].tolist() == found and sample["loss_mask"].tolist() == mask


def test_stages_with_pairs(tmp_path: Path) -> None:
    write_sources(tmp_path, 6000)
    made = pack([(9, 8 + n % 5) for n in range(23)], LENGTH)
    write(tmp_path / "pairs", made)
    stages = "".join(
        f'[[stages]]\nname = "{n}"\ntokens = {LENGTH * 40}\nweights = "uniform"\n{pairs}\n'
        for n, pairs in enumerate(("", "pairs = 0.5", "pairs = 0.0"))
    )
    known_plan = plan(tmp_path, stages)
    data, schedule = staged(tmp_path, known_plan, 120)
    assert [record.weights[PAIRS] for record in schedule.records] == [0.25, 0.5, 0.0]
    assert [record.weights["Go"] for record in schedule.records] == [0.375, 0.25, 0.5]
    samples = [data[number] for number in range(120)]
    number = [source.language for source in data.index.layout.sources].index(PAIRS)
    drawn = [int(sample["dataset_id"]) == number for sample in samples]
    assert [sum(drawn[start : start + 40]) for start in (0, 40, 80)] == [10, 20, 0]
    for sample in samples:  # a batch can be made of any of them
        assert sample["language_id"].shape == sample["tokens"].shape
    other = next(sample for sample in samples if sample["dataset_id"] != number)
    assert len(set(other["language_id"].tolist())) == 1
    # What is counted of pairs is what the sequences hold.
    counted = seen(known_plan, data.index.layout, schedule, 120)
    assert counted[PAIRS] == 30 * LENGTH
    held = (made.language == LANGUAGES.index("Python")).sum() / made.tokens.size
    expected = counted["Python"] + held * 30 * LENGTH
    assert with_pairs(known_plan, counted)["Python"] == pytest.approx(expected)
    assert known_plan.after(known_plan.stages[1], schedule.records[1].weights).languages[
        "Go"
    ].consumed == pytest.approx(0.25 * 40 * LENGTH)


def test_losses_of_languages_and_directions(tmp_path: Path) -> None:
    """Against sums taken straight from the arrays, on the whole and on parts of sequences."""
    write_sources(tmp_path, 6000)
    made = pack([(5 + n % 9, 4 + n % 7) for n in range(31)], LENGTH)
    write(tmp_path / "pairs", made)
    data, _ = staged(tmp_path, plan(tmp_path), 80)
    kinds = kinds_of(LANGUAGES, [str(tmp_path / "pairs")])
    number = [source.language for source in data.index.layout.sources].index(PAIRS)
    measured = {size: LanguageLoss(kinds.names, [0, 1, 2], "cpu") for size in (1, 2)}
    sums: dict[str, list[float]] = {}
    random = torch.Generator().manual_seed(1)
    for start in range(0, 80, 4):
        batch = torch.utils.data.default_collate([data[start + row] for row in range(4)])
        losses = torch.rand(4, LENGTH, generator=random)
        mask, of_tokens = batch["loss_mask"], batch["language_id"]
        for size, measure in measured.items():
            for rank in range(size):
                measure.context_parallel = (size, rank)
                tap = measure.tap(iter([dict(batch)]))
                assert tap is not None
                assert "language_id" not in next(tap)
                part = zigzag(mask, size, rank)
                function = measure.wrap_loss(partial_of(part), tap)
                function(zigzag(losses, size, rank))
                assert of_tokens.shape == mask.shape
        for row in range(4):
            sample = {name: value[row] for name, value in batch.items()}
            if int(sample["dataset_id"]) != number:
                language = LANGUAGES[int(sample["dataset_id"])]
                add(sums, language, losses[row].sum().item(), LENGTH)
                continue
            rows = [r for r in range(31) if tokens_of(sample) == known(made, r)]
            for token in range(1, LENGTH):
                spoken, way = made.language[rows[0], token], made.direction[rows[0], token]
                loss = losses[row, token - 1].item()
                if spoken >= 0:
                    add(sums, LANGUAGES[spoken], loss, 1)
                if way >= 0:
                    add(sums, "->".join(DIRECTIONS[way]), loss, 1)
    for measure in measured.values():
        measure.commit_step()
        languages, directions = kinds.folded(measure.collect())
        found = {**languages, **directions}
        assert found.keys() == sums.keys()
        for name, (total, tokens) in sums.items():
            assert found[name][1] == tokens
            assert found[name][0] == pytest.approx(total / tokens, rel=1e-6)


def partial_of(mask: Any) -> Any:
    return partial(lambda mask, losses: (losses * mask).sum(), mask)


def add(sums: dict[str, list[float]], name: str, loss: float, tokens: int) -> None:
    before = sums.setdefault(name, [0.0, 0])
    before[0] += loss
    before[1] += tokens


def test_a_held_out_blend_with_pairs(tmp_path: Path) -> None:
    write_sources(tmp_path, 6000)
    made = pack([(9, 5 + n % 9) for n in range(11)], LENGTH)
    write(tmp_path / "pairs", made)
    held_out = blend(plan(tmp_path), {"Python": 0.5, "Go": 0.4, PAIRS: 0.1}, 1.0).valid
    assert [round(weight, 3) for _, weight in held_out] == [0.333] * 3
    kinds = kinds_of(LANGUAGES, [str(tmp_path / "pairs")])
    names = (*LANGUAGES, PAIRS)
    sources = [(prefix, w, names[number]) for number, (prefix, w) in enumerate(held_out)]
    data = build_held_out(GPTDataset, sources, 1, 24, config(), any_rank, kinds)
    for sample in (data[number] for number in range(24)):
        if sample["dataset_id"] == 2:
            rows = [r for r in range(11) if tokens_of(sample) == known(made, r)]
            assert any(matches(sample, made, kinds, row) for row in rows)
        else:
            assert set(sample["language_id"].tolist()) == {int(sample["dataset_id"])}


def test_kept_off_by_fill_in_the_middle(tmp_path: Path) -> None:
    class Torn(GPTDataset):
        """A dataset that does to samples what fill-in-the-middle does."""

        def _query_document_sample_shuffle_indices(self, idx: int) -> Any:
            text, documents = super()._query_document_sample_shuffle_indices(idx)
            return text[::-1].copy(), documents

    write_sources(tmp_path, 6000)
    made = pack([(9, 9)] * 23, LENGTH)
    write(tmp_path / "pairs", made)
    staged(tmp_path, known_plan := plan(tmp_path), 80)
    index = StagedIndex(lay_out(known_plan, 80), tmp_path / "schedule.jsonl", None)
    kinds = kinds_of(LANGUAGES, [str(tmp_path / "pairs")])
    data = build_staged_blend(Torn, index, config(), any_rank, kinds)
    assert data is not None
    assert [type(dataset).__name__ for dataset in data.datasets] == ["Torn", "Torn", "GPTDataset"]


def refused(folder: Path, message: str) -> None:
    prefix = str(folder / "pairs")
    with pytest.raises(InputError, match=message):
        PairLabels(prefix, kinds_of(LANGUAGES, [prefix]), LENGTH)


def test_what_is_refused(tmp_path: Path) -> None:
    made = pack([(9, 9)] * 5, LENGTH)
    with pytest.raises(InputError, match=r"pairs\.pairs\.json.*made by blendlaw pairs build"):
        kinds_of(LANGUAGES, [str(tmp_path / "pairs")])
    write(tmp_path / "pairs", made)
    about = tmp_path / "pairs.pairs.json"
    whole = about.read_text()
    about.write_text(whole.replace('"sequence_length": 32', '"sequence_length": 64'))
    refused(tmp_path, "packed for sequences of 64 tokens, the run's have 32")
    about.write_text(whole.replace('"Go"', '"Gu"'))
    refused(tmp_path, "the pairs have 'Gu', which the plan does not")
    about.write_text(whole[:-20])
    refused(tmp_path, r"pairs\.pairs\.json: not a")
    about.write_text(whole)
    table = np.load(tmp_path / "pairs.segments.npy")
    np.save(tmp_path / "pairs.segments.npy", table[:-1])
    refused(tmp_path, "should hold 15 segments")
    (tmp_path / "pairs.segments.npy").write_bytes(b"\x93NUMPY")
    refused(tmp_path, "not a segment file")


def test_documents_that_are_no_sequences(tmp_path: Path) -> None:
    made = pack([(9, 9)] * 6, LENGTH)
    shorter = replace(made, tokens=made.tokens[:, :-3])
    write(tmp_path / "pairs", made)
    with IndexedWriter(tmp_path / "pairs", np.dtype(np.uint16)) as out:
        for row in shorter.tokens:
            out.add(row)
    prefix = str(tmp_path / "pairs")
    kinds = kinds_of(LANGUAGES, [prefix])
    data = build_held_out(GPTDataset, [(prefix, 1.0, PAIRS)], 1, 4, config(), any_rank, kinds)
    with pytest.raises(InputError, match="a sample begins within a sequence"):
        [data[number] for number in range(4)]


def test_the_plan_says_what_is_wrong(tmp_path: Path) -> None:
    write_sources(tmp_path, 3000)
    write(tmp_path / "pairs", pack([(9, 9)] * 6, LENGTH))
    read = plan(tmp_path)
    assert read.pairs is not None
    assert read.pairs.composition is not None
    assert sum(read.pairs.composition.values()) == pytest.approx(18 / 32)
    for line, message in {
        "weight = 1.0": r"pairs\.weight: must be below 1",
        "wait = 0.1": r"pairs\.wait: unknown key .did you mean 'weight'",
        "weight = -0.1": r"pairs\.weight.*got -0\.1",
    }.items():
        with pytest.raises(InputError, match=message):
            plan(tmp_path, pairs=line)
    about = tmp_path / "pairs.pairs.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"version": 9}))
    with pytest.raises(InputError, match=r"pairs\.pairs\.json.*of version 1"):
        plan(tmp_path)


def test_the_table_finds_the_segments_of_a_sequence(tmp_path: Path) -> None:
    write(tmp_path / "pairs", pack([(3 + n % 5, 4) for n in range(40)], LENGTH))
    segments = Segments(tmp_path / "pairs")
    for sequence in range(40):
        of = segments.of(sequence)
        assert (of["sequence"] == sequence).all()
        assert len(of) == (segments.table["sequence"] == sequence).sum()
    assert len(segments.of(40)) == 0


def test_a_direction_that_could_not_be_written_down(tmp_path: Path) -> None:
    write(tmp_path / "pairs", pack([(9, 9)] * 5, LENGTH))
    about = tmp_path / "pairs.pairs.json"
    about.write_text(about.read_text().replace('"Go"', '"G' + "o" * 98 + '"'))
    with pytest.raises(InputError, match="direction: a name is longer than 100 characters"):
        kinds_of(("Python", "G" + "o" * 98), [str(tmp_path / "pairs")])

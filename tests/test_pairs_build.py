"""Pairs: what goes in comes out whole and in the right place, and what is reserved never does."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blendlaw
from blendlaw import cli
from blendlaw.corpus.options import Options
from blendlaw.corpus.prepare import prepare
from blendlaw.errors import InputError
from blendlaw.indexed import IndexedWriter, read_documents, token_dtype
from blendlaw.pairs import Pair
from blendlaw.pairs.build import build, read_build
from blendlaw.pairs.choose import Chooser
from blendlaw.pairs.directions import read_directions
from blendlaw.pairs.duplicates import near, rows_in_a_band
from blendlaw.pairs.merge import merge
from blendlaw.pairs.options import Build
from blendlaw.pairs.render import rendered
from blendlaw.pairs.result import Built, Counts, SplitCounts
from blendlaw.pairs.scan import shingles, sketches
from blendlaw.pairs.segments import SEGMENT, PairSet, Role, Segments
from blendlaw.pairs.sequences import Part, fitted
from blendlaw.plan import LanguagePlan, Plan, Run, Stage

tokenizers = pytest.importorskip("tokenizers", reason="pip install 'blendlaw[pairs]'")
pytest.importorskip("rensa", reason="pip install 'blendlaw[pairs]'")
needs_megatron = pytest.mark.skipif(
    find_spec("megatron") is None or find_spec("torch") is None,
    reason="megatron-core and torch are not installed",
)
LANGUAGES = ("Python", "Go", "Rust", "Java")
SIGNS = ["(", "=", "'é'", "\t", "🦀", "名前", "<|endoftext|>", "<|pad|>"]
WORDS = ["for", "if", "return", "x", "self.value", *SIGNS]
Docs = Mapping[str, str]


def text(seed: str, words: int = 40) -> str:
    """Random words that no other seed has, with a newline at the end or not."""
    draw = random.Random(seed)
    said = " ".join(f"{draw.choice(WORDS)}{draw.randrange(1000)}" for _ in range(words))
    return f"{seed}: {said}" + draw.choice(("", "\n"))


def task(number: int, languages: Iterable[str] = LANGUAGES, **row: Any) -> dict[str, Any]:
    docs = {name: text(f"{number} {name}", 10 + number % 50) for name in languages}
    return {"id": str(number), "docs": docs, **row}


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer of 300 tokens that has <|pad|>."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_jsonl(folder / "go.jsonl", [{"text": text(f"{n} Go")} for n in range(50)])
    options = Options(vocab_size=300, pad="<|pad|>")
    prepare([(None, str(folder / "go.jsonl"))], folder / "corpus", options)
    return folder / "corpus" / "tokenizer.json"


def plan(length: int = 1024, languages: Iterable[str] = LANGUAGES) -> Plan:
    stage = Stage("main", 1e6, "uniform")
    return Plan(Run(1e6, 1e6, length), {name: LanguagePlan() for name in languages}, (stage,))


def options(tokenizer: Path, *inputs: object, **given: Any) -> Build:
    wanted = {"pivot": None if "directions" in given else "Python", "valid_share": 0.2, **given}
    paths = tuple(str(one) if isinstance(one, Path) else one for one in inputs)
    return Build(paths, str(tokenizer), **wanted)  # type: ignore[arg-type]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """80 tasks of four languages, in blocks of about ten."""
    return write_jsonl(tmp_path / "tasks.jsonl", (task(n, licence="MIT") for n in range(80)))


def contents(prefix: Path) -> dict[str, bytes]:
    found = [path for path in files_of(prefix) if path.is_file()]
    return {path.name.removeprefix(prefix.name): path.read_bytes() for path in found}


def files_of(prefix: Path) -> list[Path]:
    return list(prefix.parent.glob(f"{prefix.name}[_.]*"))


def manifest(prefix: Path) -> list[dict[str, Any]]:
    lines = Path(f"{prefix}.manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class Found:
    """A split, read back: its documents, each as what its segments say."""

    def __init__(self, prefix: Path, tokenizer: Path, tokens: np.ndarray[Any, Any] | None = None):
        self.segments = Segments(prefix)
        self.about = self.segments.about
        known = tokenizers.Tokenizer.from_file(str(tokenizer))
        if tokens is None:
            tokens = np.stack(read_documents(prefix))
        assert tokens.shape == (self.about.sequences, self.about.sequence_length)
        self.documents: list[tuple[int, tuple[str, str] | str, tuple[str, ...]]] = []
        self.whole: list[str] = []
        for number, line in enumerate(tokens):
            assert line[-1] == self.about.eod
            covered = np.zeros(len(line), bool)
            rows = self.segments.of(number)
            texts: dict[int, list[tuple[Any, str]]] = {}
            ends = np.flatnonzero(line == self.about.eod)
            for row in rows:
                assert not covered[row["start"] : row["end"]].any()
                covered[row["start"] : row["end"]] = True
                some = line[row["start"] : row["end"]]
                if row["role"] == Role.PADDING:
                    assert row["end"] == len(line)
                    assert (some[:-1] == self.about.padding).all()
                    continue
                assert not np.isin(some, (self.about.eod, self.about.padding)).any()
                document = int(np.searchsorted(ends, row["start"]))
                texts.setdefault(document, []).append((row, known.decode(some.tolist())))
            assert not (line[~covered] == self.about.padding).any()
            for document, parts in texts.items():
                begin = ends[document - 1] + 1 if document else 0
                shown = line[begin : ends[document]].tolist()
                self.whole.append(known.decode(shown))
                rows_, said = zip(*parts, strict=True)
                if rows_[0]["role"] == Role.DOCUMENT:
                    assert len(said) == 1
                    what: tuple[str, str] | str = self.about.languages[rows_[0]["language"]]
                else:
                    assert [one["role"] for one in rows_] == [Role.SOURCE, Role.TARGET]
                    what = self.about.directions[rows_[0]["direction"]]
                    assert what == tuple(self.about.languages[one["language"]] for one in rows_)
                self.documents.append((number, what, said))


def check(
    prefix: Path,
    split: str,
    docs: Mapping[str, Docs],
    directions: Any,
    tokenizer: Path,
    tokens: Any = None,
) -> Found:
    """Every wanted pair is there whole, once, with its place told, no two of a task together."""
    found = Found(Path(f"{prefix}_{split}"), tokenizer, tokens)
    owner = {said: id for id, texts in docs.items() for said in texts.values()}
    wanted = Counter(
        ((a, b), (texts[a], texts[b]))
        for texts in docs.values()
        for a, b in directions
        if a in texts and b in texts
    )
    assert Counter((what, said) for _, what, said in found.documents) == wanted
    together: Counter[tuple[int, str]] = Counter()
    for number, _, said in found.documents:
        (id,) = {owner[one] for one in said}
        together[number, id] += 1
    assert max(together.values()) == 1
    return found


def split_docs(prefix: Path, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Docs]]:
    docs = {row["id"]: row["docs"] for row in rows}
    told: dict[str, dict[str, Docs]] = {"train": {}, "valid": {}}
    for row in manifest(prefix):
        if row["fate"] in told:
            told[row["fate"]][row["id"]] = docs[row["id"]]
    return told


PIVOT = [(a, b) for a in LANGUAGES for b in LANGUAGES if a != b and "Python" in (a, b)]
EVERY = [(a, b) for a in LANGUAGES for b in LANGUAGES if a != b]

# What goes in comes out.


@needs_megatron
@pytest.mark.parametrize("strategy", ["direct", "prompt"])
def test_megatron_reads_every_pair_whole(
    strategy: Any, tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    prefix = tmp_path / "pairs"
    built = build(plan(), options(tokenizer, tasks, strategy=strategy), prefix)
    assert built is not None
    docs = split_docs(prefix, map(json.loads, tasks.read_text().splitlines()))
    assert len(docs["train"]) + len(docs["valid"]) == 80
    assert len(docs["valid"]) > 5
    for split, directions in (("train", PIVOT), ("valid", EVERY)):
        out = tmp_path / f"{split}.npy"
        worker = Path(__file__).parent / "stacks" / "pairs_worker.py"
        command = [sys.executable, "-W", "ignore", worker, f"{prefix}_{split}", out]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = check(prefix, split, docs[split], directions, tokenizer, tokens=np.load(out))
        counts = built.counts.splits[split]
        assert counts.documents == len(found.documents) == sum(counts.pairs.values())
        assert counts.sequences == found.about.sequences
        assert found.about.strategy == strategy
        padding = found.segments.table["role"] == Role.PADDING
        sizes = found.segments.table["end"] - found.segments.table["start"]
        assert counts.padding == sizes[padding].sum()
        assert sum(found.about.tokens.values()) == sizes[~padding].sum()


def test_the_templates_are_what_is_built(tasks: Path, tokenizer: Path, tmp_path: Path) -> None:
    for strategy in ("direct", "prompt"):
        prefix = tmp_path / strategy
        build(plan(), options(tokenizer, tasks, strategy=strategy), prefix)
        found = Found(Path(f"{prefix}_train"), tokenizer)
        for (_, (a, b), (source, target)), whole in zip(found.documents, found.whole, strict=True):
            said = f"The same program translated from {a} to {b}:\n" if strategy == "prompt" else ""
            begin = f"{a}:\n" if strategy == "prompt" else ""
            assert whole == f"{begin}{source}\n{said}{target}"


def test_shuffled_documents_are_apart_and_validation_is_of_pairs(
    tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    prefix = tmp_path / "pairs"
    build(plan(), options(tokenizer, tasks, strategy="shuffled"), prefix)
    docs = split_docs(prefix, map(json.loads, tasks.read_text().splitlines()))
    found = Found(Path(f"{prefix}_train"), tokenizer)
    wanted = Counter(
        (name, said) for texts in docs["train"].values() for name, said in texts.items()
    )
    assert Counter((what, said[0]) for _, what, said in found.documents) == wanted
    owner = {said: id for id, texts in docs["train"].items() for said in texts.values()}
    together = Counter((number, owner[said[0]]) for number, _, said in found.documents)
    assert max(together.values()) == 1
    assert found.about.strategy == "shuffled"
    assert check(prefix, "valid", docs["valid"], EVERY, tokenizer).about.strategy == "direct"


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 120), min_size=2, max_size=4), min_size=2, max_size=12),
    length=st.integers(120, 900),
    block=st.sampled_from([300, 3000, 1 << 20]),
)
def test_pairs_of_any_length_stay_whole(
    sizes: list[list[int]], length: int, block: int, tokenizer: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("any")
    rows = [
        {"id": f"{n}", "docs": {
            name: text(f"{n} {name}", words) for name, words in zip(LANGUAGES, each, strict=False)
        }} for n, each in enumerate(sizes)
    ]  # fmt: skip
    given = write_jsonl(folder / "tasks.jsonl", rows)
    wanted = options(
        tokenizer, given, valid_share=0.0, block_bytes=block, directions="all", near_duplicates=0.0
    )
    known = tokenizers.Tokenizer.from_file(str(tokenizer))
    known.encode_special_tokens = True

    def fits(a: str, b: str, texts: Docs) -> bool:
        around = rendered(Pair("", a, b, texts[a], texts[b]))
        parts = [*around, texts[a], texts[b]]
        return sum(len(known.encode(part).ids) for part in parts) + 1 <= length

    fitting = Counter(
        ((a, b), (row["docs"][a], row["docs"][b]))
        for row in rows
        for a in row["docs"]
        for b in row["docs"]
        if a != b and fits(a, b, row["docs"])
    )
    if not fitting:
        with pytest.raises(InputError, match="nothing is left to train"):
            build(plan(length), wanted, folder / "pairs")
        return
    build(plan(length), wanted, folder / "pairs")
    found = Found(folder / "pairs_train", tokenizer)
    assert Counter((what, said) for _, what, said in found.documents) == fitting
    owner = {said: row["id"] for row in rows for said in row["docs"].values()}
    together = Counter((number, owner[said[0]]) for number, _, said in found.documents)
    assert max(together.values()) == 1


def test_every_kind_of_input_gives_the_same_documents(tokenizer: Path, tmp_path: Path) -> None:
    rows = [task(n, ("Python", "Go")) for n in range(20)]
    for row in rows:
        row["docs"] = {k: v.replace("\t", " ").rstrip("\n") for k, v in row["docs"].items()}
    jsonl = write_jsonl(tmp_path / "a.jsonl", rows)
    aligned = {}
    for name, suffix in (("python", "txt"), ("golang", "jsonl")):
        path = tmp_path / f"{name}.{suffix}"
        key = {"python": "Python", "golang": "Go"}[name]
        said = (row["docs"][key] for row in rows)
        dumped = (json.dumps(one) if suffix == "jsonl" else one for one in said)
        path.write_text("".join(f"{one}\n" for one in dumped), encoding="utf-8")
        aligned[name] = str(path)
    mixed = tmp_path / "mixed"
    apart = {"py": tmp_path / "apart" / "p", "Go": tmp_path / "apart" / "g"}
    for folder in (mixed / "deep", *apart.values()):
        folder.mkdir(parents=True)
    for n, row in enumerate(rows):
        (mixed / "deep" / f"{n:02d}.py").write_text(row["docs"]["Python"])
        (mixed / "deep" / f"{n:02d}.go").write_text(row["docs"]["Go"])
        (apart["py"] / f"{n:02d}.txt").write_text(row["docs"]["Python"])
        (apart["Go"] / f"{n:02d}").write_text(row["docs"]["Go"])
    every: list[Counter[Any]] = []
    folders = {name: str(path) for name, path in apart.items()}
    for number, source in enumerate((jsonl, aligned, mixed, folders)):
        prefix = tmp_path / f"out{number}"
        build(plan(), options(tokenizer, source, block_bytes=1000), prefix)
        documents = Found(Path(f"{prefix}_train"), tokenizer).documents
        every.append(Counter((what, said) for _, what, said in documents))
        lines = [row["line"] for row in manifest(prefix)]
        assert lines == (list(range(1, 21)) if number < 2 else [None] * 20)
    assert every[0] == every[1] == every[2] == every[3]
    assert len(every[0]) > 20


def test_the_manifest_says_what_became_of_each(tokenizer: Path, tmp_path: Path) -> None:
    first = task(0, licence="MIT", origin="here")
    changed = {**first["docs"], "Go": first["docs"]["Go"] + " one more"}
    spaced = {k: " ".join(v.split()) + "\n\n" for k, v in task(1)["docs"].items()}
    rows = [
        first, task(1), {"id": "copy", "docs": spaced}, {"id": "near", "docs": changed},
        {"id": "one", "docs": {"Go": "x"}}, task(2, license="BSD"),
    ]  # fmt: skip
    given = write_jsonl(tmp_path / "t.jsonl", rows)
    wanted = options(tokenizer, given, valid_share=0.0, bad_tasks="skip", block_bytes=900)
    built = build(plan(), wanted, tmp_path / "p")
    told = manifest(tmp_path / "p")
    fates = ["train", "train", "duplicate", "near duplicate", "unusable", "train"]
    assert [row["fate"] for row in told] == fates
    assert [row["line"] for row in told] == [1, 2, 3, 4, 5, 6]
    assert told[0]["licence"] == "MIT"
    assert told[0]["origin"] == "here"
    assert told[5]["licence"] == "BSD"
    assert "one side only" in told[4]["problem"]
    assert built is not None
    assert built.counts.tasks == 6
    assert built.counts.fates["train"] == 3
    assert Built.from_json(built.to_json()) == built


# Directions


def names(found: Found) -> Counter[str]:
    return Counter("->".join(what) for _, what, _ in found.documents)


def test_directions_and_their_weights(tasks: Path, tokenizer: Path, tmp_path: Path) -> None:
    weights = {"Python->Go": 2.0, "Go->Rust": 0.5}
    wanted = options(tokenizer, tasks, directions=weights, both=False, valid_share=0.0)
    build(plan(), wanted, tmp_path / "a")
    found = names(Found(tmp_path / "a_train", tokenizer))
    assert found.keys() == weights.keys()
    assert found["Python->Go"] == 160
    assert 25 < found["Go->Rust"] < 55
    together = Counter(
        (number, said) for number, _, said in Found(tmp_path / "a_train", tokenizer).documents
    )
    assert max(together.values()) == 1, "two copies of a pair in one sequence"
    build(plan(), replace(wanted, seed=2), tmp_path / "b")
    assert contents(tmp_path / "a")["_train.bin"] != contents(tmp_path / "b")["_train.bin"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pivot": "py"}, {f"{a}->{b}" for a, b in PIVOT}),
        ({"pivot": "Python", "both": False}, {"Python->Go", "Python->Rust", "Python->Java"}),
        ({"directions": ["Go->Rust"]}, {"Go->Rust", "Rust->Go"}),
        (
            {"directions": "all", "reserved": ["Go->rs", "Rust->golang"]},
            {f"{a}->{b}" for a, b in EVERY} - {"Go->Rust", "Rust->Go"},
        ),
    ],
)
def test_what_is_trained(given: dict[str, Any], expected: set[str], tokenizer: Path) -> None:
    found = read_directions(options(tokenizer, "x", **given), LANGUAGES)
    assert {found.name(one) for one in found.trained} == expected
    assert len(found.names) == 12


def test_more_directions_than_segments_can_tell_are_refused(tokenizer: Path) -> None:
    names = [f"L{n}" for n in range(182)]
    assert len(read_directions(options(tokenizer, "x", pivot="L0"), names[:181]).every) < 1 << 15
    with pytest.raises(InputError, match="181 languages at most"):
        read_directions(options(tokenizer, "x", pivot="L0"), names)


def test_a_plugin_renders_in_all_processes(
    tasks: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fenced_pairs.py").write_text(
        "import blendlaw\n\n@blendlaw.hookimpl\ndef render_pair(pair):\n"
        "    return f'<{pair.source}>{pair.source_text}<{pair.target}>{pair.target_text}</>'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import fenced_pairs  # type: ignore[import-not-found]

    blendlaw.plugin_manager().register(fenced_pairs, name="fenced")
    try:
        wanted = options(tokenizer, tasks, block_bytes=20_000)
        build(plan(), wanted, tmp_path / "one")
        build(plan(), wanted, tmp_path / "two", workers=2)
    finally:
        blendlaw.plugin_manager().unregister(fenced_pairs)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    found = Found(tmp_path / "two_train", tokenizer)
    (_, (a, b), said), whole = found.documents[0], found.whole[0]
    assert whole == f"<{a}>{said[0]}<{b}>{said[1]}</>"


def test_renderings_that_cannot_be_told_apart_are_refused() -> None:
    class Bad:
        said: Any = ""

        @blendlaw.hookimpl
        def render_pair(self, pair: Pair) -> Any:
            return self.said(pair)

    bad = Bad()
    blendlaw.plugin_manager().register(bad, name="bad")
    pair = Pair("7", "Python", "Go", "print(1)", "fmt.Println(1)")
    try:
        for said, problem in (
            (lambda p: p.source_text, "without the source and after it the target"),
            (lambda p: p.target_text + p.source_text, "without the source and after it"),
            (lambda p: 7, "no text: 7"),
            (
                lambda p: (
                    f"{p.source_text} {p.source_text}{p.id if 'x' in p.id else ''} {p.target_text}"
                ),
                "cannot be told",
            ),
        ):
            bad.said = said
            with pytest.raises(InputError, match=problem) as caught:
                rendered(pair)
            assert "task '7', Python->Go" in str(caught.value)
    finally:
        blendlaw.plugin_manager().unregister(bad)


def test_short_programs_are_found_although_the_template_has_them_too() -> None:
    for source, target in (("t", "o"), ("Go", "Python"), ("a", "a"), ("from", "from to")):
        parts = rendered(Pair("", "Python", "Go", source, target))
        assert parts.before == "Python:\n"
        assert parts.between.endswith("from Python to Go:\n")
        assert parts.after == ""


# Too long, fill


def test_cutting_keeps_to_the_length_and_to_proportion() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        sizes = draw.integers(1, 60, 2)
        around = draw.integers(0, 9, 3)
        length = int(draw.integers(10, 100))
        tokens = [np.arange(n) for n in (around[0], sizes[0], around[1], sizes[1], around[2])]
        roles = (None, Role.SOURCE, None, Role.TARGET, None)
        parts = tuple(Part(t, 0, role) for t, role in zip(tokens, roles, strict=True))
        cut = fitted(parts, length)
        room = length - 1 - around.sum()
        if room < 2:
            assert cut is None
            continue
        assert cut is not None
        kept = [len(part.tokens) for part in cut]
        assert sum(kept) + 1 == min(length, 1 + around.sum() + sizes.sum())
        assert [kept[0], kept[2], kept[4]] == around.tolist()
        share = min(1.0, room / sizes.sum())
        assert np.abs(np.array([kept[1], kept[3]]) - sizes * share).max() <= 1


def test_a_job_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.work: nothing was built there"):
        merge(tmp_path / "p")
    (tmp_path / "p.work").mkdir()
    for content in ("{}", "[]", "{"):
        (tmp_path / "p.work" / "job.json").write_text(content)
        with pytest.raises(InputError, match=r"job\.json: not of pairs"):
            merge(tmp_path / "p")


def test_too_long_is_dropped_or_truncated_on_both_sides(tokenizer: Path, tmp_path: Path) -> None:
    rows = [task(n, ("Python", "Go")) for n in range(6)]
    long = {"Python": text("long Python", 300), "Go": text("long Go", 100)}
    given = write_jsonl(tmp_path / "t.jsonl", [*rows, {"id": "long", "docs": long}])
    wanted = options(tokenizer, given, valid_share=0.0)
    dropped = build(plan(), wanted, tmp_path / "a")
    assert dropped is not None
    assert dropped.counts.splits["train"].too_long == {"Python->Go": 1, "Go->Python": 1}
    cut = build(plan(), replace(wanted, too_long="truncate"), tmp_path / "b")
    assert cut is not None
    assert cut.counts.splits["train"].truncated == {"Python->Go": 1, "Go->Python": 1}
    found = Found(tmp_path / "b_train", tokenizer)
    assert len(found.documents) == 14
    some = [said for _, what, said in found.documents if said[0].startswith("long Python")]
    ((source, target),) = some
    assert long["Python"].startswith(source)
    assert long["Go"].startswith(target)
    assert 2 < len(source) / len(target) < 4.5


def corpus(prefix: Path, texts: Iterable[str], tokenizer: Path) -> Path:
    known = tokenizers.Tokenizer.from_file(str(tokenizer))
    known.encode_special_tokens = True
    eod = known.token_to_id("<|endoftext|>")
    with IndexedWriter(prefix, token_dtype(300)) as writer:
        for one in texts:
            writer.add(np.array([*known.encode(one).ids, eod], np.uint16))
    return prefix


def test_documents_fill_the_gaps_once_each(tasks: Path, tokenizer: Path, tmp_path: Path) -> None:
    alone = [text(f"alone {n}", n % 12) for n in range(400)]
    same = [task(n)["docs"]["Rust"] for n in range(10)]
    prefix = corpus(tmp_path / "rust", [*alone, *same], tokenizer)
    wanted = options(tokenizer, tasks, block_bytes=10_000)
    without = build(plan(), wanted, tmp_path / "a")
    filled = build(plan(), replace(wanted, fill={"rs": (str(prefix),)}), tmp_path / "b")
    assert without is not None
    assert filled is not None
    before, after = without.counts.splits["train"], filled.counts.splits["train"]
    assert after.filled > before.filled
    assert after.sequences == before.sequences
    found = Found(tmp_path / "b_train", tokenizer)
    used = Counter(said[0] for _, what, said in found.documents if what == "Rust")
    assert set(used) <= set(alone)
    assert max(used.values()) == 1
    assert sum(used.values()) == after.fill_documents > 20
    pairs = Counter((what, said) for _, what, said in found.documents if what != "Rust")
    plain = Found(tmp_path / "a_train", tokenizer)
    assert pairs == Counter((what, said) for _, what, said in plain.documents)
    assert filled.counts.splits["valid"].fill_documents == 0


# What is reserved is never trained.


def spread(said: str) -> str:
    return "\n\n  ".join(said.split(" ")) + " \n"


LEAKS = {
    "renamed id": lambda docs: docs,
    "changed whitespace": lambda docs: {k: spread(v) for k, v in docs.items()},
    "swapped roles": lambda docs: {"Python": docs["Go"], "Go": docs["Python"]},
    "one text of it": lambda docs: {"Python": "something else", "Java": docs["Rust"]},
    "nearly the same": lambda docs: {k: v + " more" for k, v in docs.items()},
}


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("strategy", ["shuffled", "direct", "prompt"])
def test_a_reserved_task_is_caught(
    leak: str, strategy: Any, tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    held = task(1000)
    reserved = write_jsonl(tmp_path / "held.jsonl", [task(999), held])
    with tasks.open("a") as file:
        file.write(json.dumps({"id": "harmless", "docs": LEAKS[leak](held["docs"])}) + "\n")
    wanted = options(
        tokenizer, tasks, strategy=strategy, reserved_tasks=(str(reserved),), valid_share=0.0
    )
    with pytest.raises(InputError, match=r"tasks\.jsonl:81, task 'harmless': would leak") as caught:
        build(plan(), wanted, tmp_path / "p")
    assert "reserved task" in str(caught.value)
    assert not (tmp_path / "p_train.bin").exists()
    build(plan(), replace(wanted, on_leak="drop"), tmp_path / "q")
    assert manifest(tmp_path / "q")[-1]["fate"] == "leak"
    said = {
        one for _, _, texts in Found(tmp_path / "q_train", tokenizer).documents for one in texts
    }
    assert said.isdisjoint(held["docs"].values())


SWAPS = {
    "labels of other languages": lambda docs: {"Python": docs["Go"], "Java": docs["Rust"]},
    "swapped roles": lambda docs: {"Rust": docs["Go"], "Go": docs["Rust"]},
    "and whitespace": lambda docs: {"Python": spread(docs["Go"]), "Java": docs["Rust"] + "\n"},
}


@pytest.mark.parametrize("leak", SWAPS)
@pytest.mark.parametrize("first", [False, True])
def test_a_reserved_direction_is_caught(
    leak: str, first: bool, tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    planted = json.dumps({"id": "harmless", "docs": SWAPS[leak](task(3)["docs"])}) + "\n"
    rows = tasks.read_text()
    tasks.write_text(planted + rows if first else rows + planted)
    wanted = options(tokenizer, tasks, directions="all", reserved=("Go->Rust",), valid_share=0.0)
    place = "1, task 'harmless'" if first else "81, task 'harmless'"
    if leak == "swapped roles" and not first:
        place = "4, task '3'"  # each of the two says that the other is in a reserved direction
    with pytest.raises(InputError, match=rf"tasks\.jsonl:{place}: would leak"):
        build(plan(), wanted, tmp_path / "p")
    tasks.write_text(rows)
    build(plan(), wanted, tmp_path / "q")
    found = names(Found(tmp_path / "q_train", tokenizer))
    assert found.keys() == {f"{a}->{b}" for a, b in EVERY} - {"Go->Rust"}


def test_a_leak_in_fill_is_caught(tasks: Path, tokenizer: Path, tmp_path: Path) -> None:
    reserved = write_jsonl(tmp_path / "held.jsonl", [task(1000)])
    prefix = corpus(tmp_path / "go", [spread(task(1000)["docs"]["Go"])], tokenizer)
    fill = {"Go": (str(prefix),)}
    wanted = options(tokenizer, tasks, reserved_tasks=(str(reserved),), fill=fill, valid_share=0.0)
    with pytest.raises(InputError, match=r"go\.bin, pairs\.build\.fill: document 0 would leak"):
        build(plan(1024), wanted, tmp_path / "p")
    built = build(plan(1024), replace(wanted, on_leak="drop"), tmp_path / "q")
    assert built is not None
    assert built.counts.splits["train"].fill_skipped == 1


def test_validation_stays_apart(tokenizer: Path, tmp_path: Path) -> None:
    rows = [task(n) for n in range(60)]
    rows += [
        {"id": f"near {n}", "docs": {k: v + " more" for k, v in task(n)["docs"].items()}}
        for n in range(20, 60)
    ]
    rows += [
        {"id": f"shares {n}", "docs": {"Go": task(n)["docs"]["Go"], "Java": text(f"other {n}")}}
        for n in range(60)
    ]
    given = write_jsonl(tmp_path / "t.jsonl", rows)
    build(plan(), options(tokenizer, given, directions="all"), tmp_path / "p")
    fates = {row["id"]: row["fate"] for row in manifest(tmp_path / "p")}
    assert all(fates[f"near {n}"] == "near duplicate" for n in range(30, 60))
    valid = [n for n in range(60) if fates[str(n)] == "valid"]
    assert valid
    for n in valid:
        assert fates[f"shares {n}"] != "train"
    train, held = (Found(tmp_path / f"p_{split}", tokenizer) for split in ("train", "valid"))
    said = [{one for _, _, texts in each.documents for one in texts} for each in (train, held)]
    assert said[0].isdisjoint(said[1])


# Duplicates


def test_near_duplicates_are_found_and_others_are_not() -> None:
    draw = random.Random(0)
    base = [f"w{draw.randrange(10**6)}" for _ in range(400)]
    texts = []
    for _ in range(50):
        texts.append(" ".join(f"w{draw.randrange(10**6)}" for _ in range(400)))
    for changes in (1, 3, 40):
        words = list(base)
        for place in draw.sample(range(400), changes):
            words[place] = "changed"
        texts.append(" ".join(words))
    texts.insert(7, " ".join(base))
    made = sketches([shingles([one]) for one in texts])
    found = np.concatenate(list(near([made[:20], made[20:]], np.ones(len(texts), bool), 0.85)))
    assert {tuple(pair) for pair in found.tolist()} >= {(51, 7), (52, 7)}
    assert set(found[:, 0].tolist()) == {51, 52}
    assert rows_in_a_band(0.85) == 8
    assert rows_in_a_band(0.3) < 4


# The same bytes, however it was made.


def test_workers_and_shards_make_no_difference(
    tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    wanted = options(tokenizer, tasks, block_bytes=10_000)
    build(plan(), wanted, tmp_path / "one")
    build(plan(), wanted, tmp_path / "two", workers=2)
    for shard in (2, 0, 1):
        assert build(plan(), wanted, tmp_path / "three", shard=(shard, 3)) is None
        if shard != 1:
            with pytest.raises(InputError, match="blocks are not there yet: "):
                merge(tmp_path / "three")
    built = merge(tmp_path / "three")
    assert built.counts.tasks == 80
    whole = contents(tmp_path / "one")
    assert len(whole) == 10
    assert whole == contents(tmp_path / "two") == contents(tmp_path / "three")
    assert not list((tmp_path / "three.work").glob("*/*"))
    assert merge(tmp_path / "three") == built
    assert build(plan(), wanted, tmp_path / "one") == built


RUN = """
import sys, pickle
from blendlaw.pairs.build import build, read_build
from blendlaw.pairs.choose import Chooser
if __name__ == "__main__":
    plan, options, prefix, workers = pickle.loads(bytes.fromhex(sys.argv[1]))
    build(plan, options, prefix, workers=workers)
"""


def written(prefix: Path) -> int:
    """How many files there are; some may be gone a moment later."""
    return sum(len(files) for _, _, files in os.walk(f"{prefix}.work")) + len(files_of(prefix))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_it_goes_on(
    workers: int, tokenizer: Path, tmp_path: Path, kill_until_done: Callable[..., int]
) -> None:
    given = write_jsonl(tmp_path / "tasks.jsonl", (task(n) for n in range(300)))
    wanted = options(tokenizer, given, block_bytes=6_000)
    build(plan(), wanted, tmp_path / "whole")
    (tmp_path / "run.py").write_text(RUN)
    job = pickle.dumps((plan(), wanted, tmp_path / "killed", workers)).hex()
    command = [sys.executable, str(tmp_path / "run.py"), job]
    done: dict[Path, int] = {}

    def kept() -> None:
        nonlocal done
        blocks = (tmp_path / "killed.work" / "blocks").glob("??????/counts.json")
        found = {path: path.stat().st_mtime_ns for path in blocks}
        if not (tmp_path / "killed.build.json").exists():  # else blocks are being cleared away
            assert done.items() <= found.items(), "a finished block was built again"
        done = found

    here = tmp_path / "killed"
    kills = kill_until_done(command, random.Random(workers), 150, lambda: written(here), kept)
    assert kills >= 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_what_is_done_is_done(tasks: Path, tokenizer: Path, tmp_path: Path) -> None:
    wanted, prefix = options(tokenizer, tasks), tmp_path / "p"
    first = build(plan(), wanted, prefix)
    before = contents(prefix)
    assert build(plan(), wanted, prefix) == first
    assert contents(prefix) == before
    with pytest.raises(InputError, match="begun with another options"):
        build(plan(), replace(wanted, seed=7), prefix)
    with pytest.raises(InputError, match="begun with another sequence_length"):
        build(plan(800), wanted, prefix)
    (tmp_path / "p.work" / "job.json").unlink()
    with pytest.raises(InputError, match="pairs are there already"):
        build(plan(), wanted, prefix)


def test_a_pipeline_of_datatrove_makes_the_same(
    tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    pytest.importorskip("datatrove", reason="pip install 'blendlaw[datatrove]'")
    from datatrove.executor import LocalPipelineExecutor

    from blendlaw.pairs.pipeline import BuildPairs, MergePairs

    toml = write_plan(tmp_path, tokenizer, tasks, "block_bytes = 10000")
    prefix = str(tmp_path / "b")
    build(*read_build(toml), tmp_path / "a")
    steps: list[tuple[Any, int]] = [(BuildPairs(str(toml), prefix), 2), (MergePairs(prefix), 1)]
    for number, (step, count) in enumerate(steps):
        logs = str(tmp_path / f"logs{number}")
        LocalPipelineExecutor([step], tasks=count, workers=count, logging_dir=logs).run()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


# The command, and bad input.


def write_plan(
    folder: Path, tokenizer: Path, tasks: object, *lines: str, length: int = 1024
) -> Path:
    told = "".join(f"[languages.{name}]\n" for name in LANGUAGES)
    table = f'[pairs.build]\ninputs = ["{tasks}"]\ntokenizer = "{tokenizer}"\n'
    pivot = (
        ""
        if any(line.startswith(("pivot", "directions")) for line in lines)
        else 'pivot = "Python"\n'
    )
    head = f"[run]\nparams = 1e6\ntokens = 1e6\nsequence_length = {length}\n"
    path = folder / "plan.toml"
    path.write_text(head + told + table + pivot + "\n".join(lines) + "\n")
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["pairs", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_builds_and_merges(
    tasks: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = write_plan(tmp_path, tokenizer, tasks, "valid_share = 0.2", "block_bytes = 10000")
    assert run("build", toml, "-o", tmp_path / "a", "--workers", 1, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["tasks"] == 80
    assert told["strategy"] == "prompt"
    assert run("build", toml, "-o", tmp_path / "b", "--workers", 1, "--shard", "1/2") == 0
    assert run("merge", "-o", tmp_path / "b") == 1
    said = capsys.readouterr().err
    assert re.search(r"b\.work/blocks: \d+ of \d+ blocks are not there yet: 0, 2", said)
    assert run("build", toml, "-o", tmp_path / "b", "--workers", 1, "--shard", "0/2") == 0
    assert run("merge", "-o", tmp_path / "b") == 0
    assert "filled" in capsys.readouterr().out
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    given = ("--workers", 1, "--strategy", "shuffled")
    assert run("build", toml, "-o", tmp_path / "c", *given) == 0
    assert Segments(tmp_path / "c_train").about.strategy == "shuffled"
    assert run("build", toml, "-o", tmp_path / "d", "--shard", "2/2") == 2


GOOD = json.dumps({"id": "1", "docs": {"Python": "a = 1", "Go": "a := 1"}}) + "\n"
BAD_ROWS = {
    "not JSON": (b'{"id": "2", "docs"', ":2: not JSON"),
    "not an object": (b"[1]", ":2: not a JSON object"),
    "no id": (b'{"docs": {"Python": "a", "Go": "b"}}', ":2: id: required, a string"),
    "no docs": (b'{"id": "2"}', ":2, task '2': docs: required"),
    "empty text": (
        b'{"id": "2", "docs": {"Python": "a", "Go": " \\n"}}',
        ":2, task '2': the text of Go is empty",
    ),
    "not a text": (
        b'{"id": "2", "docs": {"Python": "a", "Go": 1}}',
        ":2, task '2': the text of Go is not a string",
    ),
    "one side only": (b'{"id": "2", "docs": {"Go": "a"}}', ":2, task '2': one side only"),
    "not UTF-8": (b'{"id": "2", "docs": {"Python": "a\xff"}}', ":2: not UTF-8 at byte 33"),
    "half a surrogate": (
        b'{"id": "2", "docs": {"Python": "\\ud800", "Go": "b"}}',
        ":2, task '2': the text of Python is not UTF-8",
    ),
    "two spellings": (
        b'{"id": "2", "docs": {"Python": "a", "py": "b"}}',
        ":2, task '2': two texts of Python",
    ),
    "unknown language": (
        b'{"id": "2", "docs": {"Python": "a", "Rustt": "b"}}',
        "a language that the plan does not know (did you mean 'Rust'?) (got 'Rustt')",
    ),
    "licence": (
        b'{"id": "2", "licence": 3, "docs": {"Python": "a", "Go": "b"}}',
        ":2, task '2': licence: must be a string",
    ),
    "duplicate id": (
        b'{"id": "1", "docs": {"Python": "other", "Go": "texts"}}',
        ":2, task '1': another task has this id, ",
    ),
}


@pytest.mark.parametrize("what", BAD_ROWS)
def test_bad_rows_are_named(
    what: str, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, message = BAD_ROWS[what]
    path = tmp_path / "t.jsonl"
    path.write_bytes(GOOD.encode() + row + b"\n")
    for size in (10, 1 << 20):
        toml = write_plan(tmp_path, tokenizer, path, "valid_share = 0.0", f"block_bytes = {size}")
        shutil.rmtree(tmp_path / "p.work", ignore_errors=True)
        assert run("build", toml, "-o", tmp_path / "p", "--workers", 1) == 1
        said = capsys.readouterr().err
        assert message in said
        assert "t.jsonl:2" in said
        assert len(said.splitlines()) == 1
    skip = ("valid_share = 0.0", 'bad_tasks = "skip"')
    toml = write_plan(tmp_path, tokenizer, path, *skip)
    shutil.rmtree(tmp_path / "p.work", ignore_errors=True)
    status = run("build", toml, "-o", tmp_path / "p", "--workers", 1)
    if what == "duplicate id":
        assert status == 1
    else:
        assert status == 0
        assert "dropped 1 tasks: unusable" in capsys.readouterr().err


BAD_PLANS = {
    "pad is eod": ('pad = "<|endoftext|>"', "must not be the token that ends a document"),
    "no pad": ('pad = "<|padd|>"', "no token to pad with (did you mean '<|pad|>'?)"),
    "no eod": ('eod = "</s>"', "no token for the end of a document"),
    "unknown pivot": ('pivot = "Pyton"', "plan does not know (did you mean 'Python'?)"),
    "unknown direction": ('directions = ["Go->Zig"]', "a language that the plan does not know"),
    "no arrow": ('directions = ["Go-Rust"]', 'must be "SOURCE->TARGET"'),
    "to itself": ('directions = ["Go->golang"]', "the same language twice"),
    "reserved": (
        'directions = ["Go->Rust"]\nreserved = ["Go->Rust"]',
        "reserved, so it cannot be trained",
    ),
    "nothing left": (
        'directions = ["Go->Rust"]\nboth = false\nreserved = ["Rust->Go"]\ninputs2 = 1',
        "unknown key (did you mean 'inputs'?)",
    ),
    "weight": ('directions = { "Go->Rust" = 0 }', "the weight of Go->Rust must be above 0"),
    "valid share": ("valid_share = 1.0", "must be below 1: nothing would be left to train"),
    "fill": ('fill = { Go = ["nowhere"] }', "nowhere.idx, pairs.build.fill: there is no such"),
    "both": ('pivot = "Go"\ndirections = "all"', "give either pivot or directions"),
}


@pytest.mark.parametrize("what", BAD_PLANS)
def test_bad_plans_are_named(
    what: str, tasks: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, message = BAD_PLANS[what]
    toml = write_plan(tmp_path, tokenizer, tasks, *lines.split("\n"))
    assert run("build", toml, "-o", tmp_path / "p", "--workers", 1) == 1
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "p.work").exists()


def test_sequences_too_short_for_any_pair(
    tasks: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = write_plan(tmp_path, tokenizer, tasks, length=20)
    assert run("build", toml, "-o", tmp_path / "p", "--workers", 1) == 1
    assert "run.sequence_length: sequences of at least " in capsys.readouterr().err
    toml = write_plan(tmp_path, tokenizer, tasks, 'strategy = "direct"', length=20)
    assert run("build", toml, "-o", tmp_path / "p", "--workers", 1) == 1
    assert "nothing is left to train" in capsys.readouterr().err
    toml.write_text("[run]\nparams = 1e6\ntokens = 1e6\n[languages.Go]\n")
    assert run("build", toml, "-o", tmp_path / "q") == 1
    assert "plan.toml, pairs.build: this table is required" in capsys.readouterr().err


def test_files_and_folders_that_will_not_do(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("one\n")
    (tmp_path / "bad.txt").write_bytes(b"one\n\xff\n")
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "f"
    folder.mkdir()
    for name in ("a.py", "b.go"):
        (folder / name).write_text("text")
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a.js", "a.mjs"):
        (twice / name).write_text("text")
    a, b, bad = (str(tmp_path / name) for name in ("a.txt", "b.txt", "bad.txt"))
    for source, message in (
        ({"Go": a, "Rust": b}, r"b\.txt: has 1 lines, and .*a\.txt has more"),
        ({"Go": b, "Rust": a}, r"b\.txt: has 1 lines, and .*a\.txt has more"),
        ({"Go": a, "Rust": bad}, r"a\.txt:2, task .*bad\.txt: .*decode"),
        ({"Go": a}, "of two languages at least"),
        (a, "neither a JSONL nor a folder"),
        (tmp_path / "empty", "no two files of one stem"),
        (folder, "no two files of one stem"),
        (twice, "two files of JavaScript with one stem"),
    ):
        with pytest.raises(InputError, match=message):
            build(plan(), options(tokenizer, source), tmp_path / "p")
        shutil.rmtree(tmp_path / "p.work", ignore_errors=True)
    with pytest.raises(OSError, match="nowhere"):
        build(plan(), options(tokenizer, tmp_path / "nowhere.jsonl"), tmp_path / "p")


def test_unknown_languages_are_left_out_where_it_is_asked_for(
    tokenizer: Path, tmp_path: Path
) -> None:
    rows = [task(n, (*LANGUAGES, "Zig")) for n in range(9)] + [task(9, ("Go", "Zig"))]
    given = write_jsonl(tmp_path / "t.jsonl", rows)
    wanted = options(tokenizer, given, valid_share=0.0, unknown_languages="skip", bad_tasks="skip")
    build(plan(), wanted, tmp_path / "p")
    told = manifest(tmp_path / "p")
    assert [row["fate"] for row in told] == ["train"] * 9 + ["unusable"]
    assert told[0]["languages"] == list(LANGUAGES)


def test_damaged_blocks_are_refused_and_the_others_survive(
    tasks: Path, tokenizer: Path, tmp_path: Path
) -> None:
    wanted = options(tokenizer, tasks, block_bytes=10_000)
    build(plan(), wanted, tmp_path / "whole")
    for damage in ("train.tokens", "train.segments", "counts.json", "manifest.jsonl"):
        prefix = tmp_path / damage.partition(".")[2]
        for shard in (0, 1):
            build(plan(), wanted, prefix, shard=(shard, 2))
        block = Path(f"{prefix}.work") / "blocks" / "000001"
        content = (block / damage).read_bytes()
        (block / damage).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=r"000001: a block that is not whole; delete it"):
            merge(prefix)
        others = {path: path.stat().st_mtime_ns for path in block.parent.iterdir() if path != block}
        shutil.rmtree(block)
        build(plan(), wanted, prefix, shard=(1, 2))
        assert others.items() <= {p: p.stat().st_mtime_ns for p in block.parent.iterdir()}.items()
        merge(prefix)
        assert contents(prefix) == contents(tmp_path / "whole")


def test_a_full_disk_is_told_and_what_is_done_survives(
    tasks: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = options(tokenizer, tasks, block_bytes=10_000)
    build(plan(), wanted, tmp_path / "whole")
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "train.tokens" and "000003" in path.parts[-2]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        build(plan(), wanted, tmp_path / "p")
    monkeypatch.undo()
    blocks = tmp_path / "p.work" / "blocks"
    done = {path: path.stat().st_mtime_ns for path in blocks.glob("??????")}
    assert [path.name for path in sorted(done)] == ["000000", "000001", "000002"]
    build(plan(), wanted, tmp_path / "p", shard=(0, 1))
    assert done.items() <= {p: p.stat().st_mtime_ns for p in blocks.glob("??????")}.items()
    merge(tmp_path / "p")
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


def test_a_changed_file_is_noticed(
    tasks: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tasks.read_text()
    real = Chooser.choose

    def change(chooser: Chooser) -> Any:
        made = real(chooser)
        tasks.write_text(rows.replace("self.value", "self.other"))
        return made

    monkeypatch.setattr(Chooser, "choose", change)
    with pytest.raises(InputError, match=r"tasks\.jsonl: changed while it was read"):
        build(plan(), options(tokenizer, tasks), tmp_path / "p")


def test_without_the_library_it_says_how_to_install_it(
    tasks: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(InputError, match=r"pip install 'blendlaw\[pairs\]'"):
        build(plan(), options(tokenizer, tasks), tmp_path / "p")
    build(plan(), options(tokenizer, tasks, near_duplicates=0.0), tmp_path / "p")


def test_every_key_has_its_place() -> None:
    page = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")

    def keys(heading: str) -> set[str]:
        section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert section, heading
        cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
        return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}

    def of(*types: Any) -> set[str]:
        return {field.name for each in types for field in fields(each)}

    assert keys("The table pairs.build") == {f"pairs.build.{key}" for key in of(Build)}
    assert keys("PREFIX.pairs.json") == {"version"} | of(PairSet)
    assert keys("PREFIX.build.json") == {"version"} | of(Built, Counts, SplitCounts)
    row = {"id", "file", "line", "licence", "origin", "languages", "fate", "problem"}
    assert keys("PREFIX.manifest.jsonl") == row
    assert keys("PREFIX.segments.npy") == set(SEGMENT.names or ()) | {str(int(r)) for r in Role}

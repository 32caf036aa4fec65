"""Corpus preparation: what goes in comes out, once, in the same bytes however it was made."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import fields
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendlaw import cli
from blendlaw.corpus.inputs import find_pieces
from blendlaw.corpus.job import opened_job
from blendlaw.corpus.options import Options
from blendlaw.corpus.prepare import prepare
from blendlaw.corpus.reading import read_texts
from blendlaw.corpus.result import Corpus, Part, TokenizerUsed, slugs
from blendlaw.errors import InputError
from blendlaw.indexed import (
    DTYPES,
    IndexedWriter,
    Tokens,
    count_tokens,
    read_documents,
    token_dtype,
)
from blendlaw.plan import read_plan

tokenizers = pytest.importorskip("tokenizers", reason="pip install 'blendlaw[corpus]'")
needs_megatron = pytest.mark.skipif(
    find_spec("megatron") is None or find_spec("torch") is None,
    reason="megatron-core and torch are not installed",
)
EOD = "<|endoftext|>"
TRAIN = Options(vocab_size=300, valid_share=0.2)
WORDS = [
    "for",
    "if",
    "return",
    "x",
    "名前",
    "self.value",
    "(",
    "=",
    "'é'",
    "\t",
    "🦀",
    "<|endoftext|>",
]


def text(seed: int) -> str:
    draw = random.Random(seed)
    return f"{seed}\n" + "".join(
        " ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) + "\n"
        for _ in range(draw.randrange(1, 20))
    )


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tarball(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> list[tuple[str | None, str]]:
    """Texts of every kind of input: 300 of three languages, 20 of which are copies."""
    folder = tmp_path / "my sources é"
    (folder / "deep" / ".git").mkdir(parents=True)
    (folder / "deep" / ".git" / "hook.py").write_text("hidden")
    (folder / "README").write_text("of no known extension")
    for number in range(80):
        name = f"{'deep/' * (number % 2)}名 {number}.{('py', 'go')[number % 3 == 0]}"
        (folder / name).write_text(text(number))
    (folder / "link.py").symlink_to("名 2.py")
    rows = [{"text": text(n), "path": "x", "language": "rust"} for n in range(80, 160)]
    rust = write_jsonl(tmp_path / "rows.jsonl", rows)
    python = write_jsonl(tmp_path / "python.jsonl", ({"text": text(n)} for n in range(150, 220)))
    members = {f"./src/{n}.rs": text(n).encode() for n in range(210, 260)}
    tar = tarball(tmp_path / "a b.tar.gz", members)
    other = tarball(tmp_path / "c.tar", {f"{n}": text(n).encode() for n in range(260, 300)}, "w")
    paths = [(None, str(path)) for path in (folder, rust, python, tar)]
    return [*paths, ("Go", str(other))]


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a corpus; plan.toml names the folder and is not among them."""
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    found.pop("plan.toml")
    return found


def decoded(folder: Path, corpus: Corpus) -> dict[tuple[str, str], list[str]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = {}
    for language, parts in corpus.languages.items():
        for split, part in parts.items():
            documents = read_documents(folder / part.prefix) if part.prefix else []
            assert all(d[-1] == corpus.tokenizer.eod_id for d in documents)
            assert not any((d[:-1] == corpus.tokenizer.eod_id).any() for d in documents)
            texts = [tokenizer.decode(d[:-1].tolist()) for d in documents]
            found[language, split] = texts
            assert len(texts) == part.documents
            assert sum(map(len, documents)) == part.tokens
            assert sum(len(t.encode()) for t in texts) == part.bytes
    return found


def valid(content: str) -> bool:
    low = blake2b(content.encode(), digest_size=16).digest()[8:]
    return int.from_bytes(low, "little") / 2**64 < 0.2


# What goes in comes out.


def test_every_text_comes_back_once_in_order(
    inputs: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    corpus = prepare(inputs, tmp_path / "out", TRAIN)
    found = decoded(tmp_path / "out", corpus)
    folder_order = sorted(
        (f"{'deep/' * (n % 2)}名 {n}.{('py', 'go')[n % 3 == 0]}" for n in range(80)),
        key=lambda name: name.split("/"),
    )
    by_folder = [int(name.split()[1].split(".")[0]) for name in folder_order]
    expected = {
        "Python": [text(n) for n in by_folder if n % 3] + [text(n) for n in range(160, 220)],
        "Go": [text(n) for n in by_folder if not n % 3] + [text(n) for n in range(260, 300)],
        "Rust": [text(n) for n in range(80, 160)] + [text(n) for n in range(220, 260)],
    }
    seen: set[str] = set()
    for language, texts in expected.items():
        assert len(set(texts)) == len(texts)
        assert seen.isdisjoint(texts)
        seen |= set(texts)
        for split in ("train", "valid"):
            wanted = [t for t in texts if valid(t) == (split == "valid")]
            assert found[language, split] == wanted
    assert corpus.total.files == 320
    assert corpus.total.documents == 300
    assert corpus.total.duplicates == 20
    assert corpus.tokenizer.vocabulary == 300
    assert Corpus.from_json(corpus.to_json()) == corpus
    assert not list((tmp_path / "out" / ".work").glob("*/*"))


def test_the_plan_is_one(inputs: list[tuple[str | None, str]], tmp_path: Path) -> None:
    corpus = prepare(inputs, tmp_path / 'o u"t é', TRAIN)
    plan = read_plan(tmp_path / 'o u"t é' / "plan.toml")
    assert list(plan.languages) == list(corpus.languages)
    for name, language in plan.languages.items():
        part = corpus.languages[name]["train"]
        assert language.unique_tokens == part.tokens
        assert language.sources[0].tokens == count_tokens(language.sources[0].prefix) == part.tokens
        assert language.valid_sources[0].tokens == corpus.languages[name]["valid"].tokens


def test_a_split_never_depends_on_other_texts(
    inputs: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    everything = decoded(tmp_path / "a", prepare(inputs, tmp_path / "a", TRAIN))
    some = decoded(tmp_path / "b", prepare(inputs[2:], tmp_path / "b", TRAIN))
    all_valid = {t for (_, split), texts in everything.items() if split == "valid" for t in texts}
    for (_, split), texts in some.items():
        assert all((t in all_valid) == (split == "valid") for t in texts)


@needs_megatron
def test_megatron_reads_and_would_have_written_the_same(
    inputs: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    corpus = prepare(inputs, out, TRAIN)
    for parts in corpus.languages.values():
        for part in parts.values():
            for_megatron(out / str(part.prefix), read_documents(out / str(part.prefix)), 300)
    draw = np.random.default_rng(0)
    for number in range(40):
        vocabulary = [300, 65499, 65500, 200_000][number % 4]
        lengths = draw.integers(0, 50, draw.integers(0, 30))
        dtype = token_dtype(vocabulary)
        documents = [draw.integers(0, vocabulary, n).astype(dtype) for n in lengths]
        with IndexedWriter(out / f"random{number}", dtype) as writer:
            for document in documents:
                writer.add(document)
        for_megatron(out / f"random{number}", documents, vocabulary)
    worker = Path(__file__).parent / "stacks" / "indexed_worker.py"
    command = [sys.executable, "-W", "ignore", str(worker), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same") == 46


def for_megatron(prefix: Path, documents: list[Tokens], vocabulary: int) -> None:
    """What ``indexed_worker.py`` compares with; Megatron's builder takes signed numbers."""
    tokens = np.concatenate([np.empty(0, np.int64), *documents])
    lengths = np.array([len(d) for d in documents], np.int64)
    np.savez(f"{prefix}.npz", vocabulary=np.array(vocabulary), tokens=tokens, lengths=lengths)


def test_every_key_of_corpus_json_has_its_place() -> None:
    page = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    section = page.partition("\n## corpus.json\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    keys = {key.partition(".")[0] for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    types = (Corpus, Part, TokenizerUsed)
    assert keys == {"version"} | {field.name for each in types for field in fields(each)}


# The same bytes, however it was made.


def test_workers_and_pieces_make_no_difference(
    inputs: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    prepare(inputs, tmp_path / "one", TRAIN)
    small = Options(vocab_size=300, valid_share=0.2, piece_bytes=1000)
    prepare(inputs, tmp_path / "two", small, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_taken_tokenizer_makes_the_same_as_when_it_was_trained(
    inputs: list[tuple[str | None, str]], tmp_path: Path
) -> None:
    prepare(inputs, tmp_path / "one", TRAIN)
    raw = json.loads((tmp_path / "one" / "tokenizer.json").read_text())
    raw["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    (tmp_path / "cut.json").write_text(json.dumps(raw))
    taken = Options(str(tmp_path / "cut.json"), valid_share=0.2)
    prepare(inputs, tmp_path / "two", taken)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    for name in one:
        if not name.endswith(".json"):
            assert one[name] == two[name]


RUN = """
import sys, json
from blendlaw.corpus.options import Options
from blendlaw.corpus.prepare import prepare
if __name__ == "__main__":
    inputs, out, options, workers = json.loads(sys.argv[1])
    prepare([tuple(one) for one in inputs], out, Options(**options), workers=workers)
"""


def written(folder: Path) -> int:
    """How far the job has come: files in its folder, and in the corpus."""
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_it_goes_on(
    inputs: list[tuple[str | None, str]],
    tmp_path: Path,
    workers: int,
    kill_until_done: Callable[..., int],
) -> None:
    options = {"vocab_size": 300, "valid_share": 0.2, "piece_bytes": 1500}
    (tmp_path / "run.py").write_text(RUN)
    job = json.dumps([inputs, str(tmp_path / "killed"), options, workers])
    command = [sys.executable, str(tmp_path / "run.py"), job]
    here = tmp_path / "killed"
    kills = kill_until_done(command, random.Random(workers), 100, lambda: written(here))
    assert kills >= 3
    prepare(inputs, tmp_path / "whole", TRAIN)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


SLEEP = """
import os, signal, time
from blendlaw.corpus.workers import Workers
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    with Workers(2) as crew:
        print(*crew.in_order(os.getpid, [()] * 2), flush=True)
        list(crew.in_order(time.sleep, [(60,)] * 9))
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(sent: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "sleep.py").write_text(SLEEP)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleep.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(sent)
    process.stdout.read()  # ends when all that hold it have ended
    assert process.wait() != 0


def test_what_is_done_is_done(inputs: list[tuple[str | None, str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(inputs, out, TRAIN)
    before = {p: p.stat().st_mtime_ns for p in out.iterdir() if p.is_file()}
    assert prepare(inputs, out, TRAIN) == first
    assert before == {p: p.stat().st_mtime_ns for p in out.iterdir() if p.is_file()}
    with pytest.raises(InputError, match="begun with another vocab_size"):
        prepare(inputs, out, Options(vocab_size=400, valid_share=0.2))
    os.utime(inputs[1][1], (1, 1))
    with pytest.raises(InputError, match="begun with another inputs"):
        prepare(inputs, out, TRAIN)
    (out / ".work" / "job.json").unlink()
    with pytest.raises(InputError, match="a corpus is there already"):
        prepare(inputs, out, TRAIN)


def test_two_jobs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        opened_job(tmp_path, {}),
        pytest.raises(InputError, match="another blendlaw works there"),
        opened_job(tmp_path, {}),
    ):
        pass


# Bad input.


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["corpus", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def options(out: Path) -> list[object]:
    return ["-o", out, "--train-tokenizer", "--vocab-size", 300, "--workers", 1]


def test_what_cannot_be_used_is_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    good = [text(n) for n in range(40)]
    write_jsonl(
        folder.parent / "go.jsonl", [{"text": t} for t in (*good, "", "\ud800", "x" * 9999)]
    )
    for name, content in {
        "bad.py": b"\xff\xfe",
        "empty.py": b"\xef\xbb\xbf \n",
        "nul.py": b"a\0b",
        "large.py": b"x" * 9999,
        "bom.py": b"\xef\xbb\xbfprint(1)\n",
    }.items():
        (folder / name).write_bytes(content)
    given = [folder, folder.parent / "go.jsonl", "--max-bytes", 5000]
    assert run(*given, *options(tmp_path / "out"), "--json") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["skipped"] == {"binary": 1, "empty": 2, "not UTF-8": 2, "too large": 2}
    for named in ("bad.py: not UTF-8", "go.jsonl:41: empty", "go.jsonl:43: larger than 5,000"):
        assert named in said.err
    assert "skipped 7 texts" in said.err
    assert found["total"]["documents"] == 41
    corpus = Corpus.from_json((tmp_path / "out" / "corpus.json").read_text())
    assert ["print(1)\n"] in decoded(tmp_path / "out", corpus).values()
    assert run(*given, *options(tmp_path / "strict"), "--strict") == 1
    assert "bad.py: not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "go.jsonl",
            b'{"text": "a"}\n\n{"text": 1}\n',
            "go.jsonl:3, text: required, a string (got 1)",
        ),
        ("go.jsonl", b'{"text": "a"}\n[1]\n', "go.jsonl:2: not a JSON object"),
        ("go.jsonl", b'{"text": "a"}\n{"te', "go.jsonl:2: not JSON"),
        ("go.jsonl", b'{"text": "a\xff"}\n', "go.jsonl:1: not UTF-8"),
        ("go.jsonl", b"[" * 100_000, "go.jsonl:1: not JSON"),
        ("go.jsonl", b'{"text": "a", "language": "\\n"}', "go.jsonl:1, language: not a name"),
        ("some.jsonl", b'{"text": "a"}\n', "some.jsonl:1, language: required, unless --language"),
        ("go.jsonl", b"", "no text for training is left"),
        ("a.tar.gz", b"nothing", "a.tar.gz: not a whole tarball"),
        ("a.tar", b"", "a.tar: not a whole tarball"),
        ("a.zip", b"", "a.zip: neither a folder, JSONL, tarball nor a source file"),
    ],
)
def test_bad_files_are_named(
    name: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert run(tmp_path / name, *options(tmp_path / "out")) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_the_line_is_right_wherever_the_pieces_are_cut(tmp_path: Path) -> None:
    rows = [json.dumps({"text": "é" * n}) for n in range(60)]
    path = tmp_path / "go.jsonl"
    path.write_text("\n".join([*rows[:41], "", "oops", *rows[41:]]))
    for size in (1, 7, 100, 1000, 1 << 20):
        pieces, _ = find_pieces([(None, str(path))], size)
        texts = (found for piece in pieces for found in read_texts(piece, 1000))
        with pytest.raises(InputError) as caught:
            list(texts)
        assert caught.value.line == 43


def test_a_whole_truncated_tarball_is_refused(tmp_path: Path) -> None:
    path = tarball(tmp_path / "a.tar.gz", {f"{n}.py": os.urandom(500) for n in range(50)})
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"a\.tar\.gz: not a whole tarball"):
        prepare([(None, str(path))], tmp_path / "out", TRAIN)


def test_members_of_tarballs_stay_inside(tmp_path: Path) -> None:
    path = tarball(
        tmp_path / "a.tar",
        {"../../escape.py": b"a = 1\n" * 9, "/root.py": b"b = 2\n" * 9, "in.py": b"c = 3\n" * 9},
        "w",
    )
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = set(tmp_path.parent.rglob("*"))
    corpus = prepare([(None, str(path))], tmp_path / "out", Options(vocab_size=300, valid_share=0))
    assert corpus.total.documents == 3
    after = set(tmp_path.parent.rglob("*")) - before
    assert all(p.is_relative_to(tmp_path / "out") for p in after)


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "go.jsonl", [{"text": text(n)} for n in range(9)])
    import blendlaw.corpus.prepare as module

    def change(texts: Iterable[str], vocabulary: int, special: Iterable[str]) -> str:
        write_jsonl(path, [{"text": text(n + 1)} for n in range(9)])
        return tokenizers.Tokenizer.from_str(SMALL).to_str()  # type: ignore[no-any-return]

    monkeypatch.setattr(module, "train", change)
    with pytest.raises(InputError, match=r"go\.jsonl: changed while it was read"):
        prepare([(None, str(path))], tmp_path / "out", TRAIN)


SMALL = json.dumps({"version": "1.0", "added_tokens": [
    {"id": 0, "content": EOD, "special": True, "single_word": False, "lstrip": False,
     "rstrip": False, "normalized": False}], "model": {"type": "BPE", "vocab": {EOD: 0},
    "merges": []}})  # fmt: skip


def test_tokenizers_that_will_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_jsonl(tmp_path / "go.jsonl", [{"text": "a"}])
    (tmp_path / "not.json").write_text("{}")
    (tmp_path / "small.json").write_text(SMALL)
    out = tmp_path / "out"
    assert run(source, "-o", out, "--tokenizer", tmp_path / "not.json") == 1
    assert "not.json: not a tokenizer" in capsys.readouterr().err
    assert (
        run(source, "-o", out, "--tokenizer", tmp_path / "small.json", "--eod", "<|endoftxt|>") == 1
    )
    assert "did you mean '<|endoftext|>'" in capsys.readouterr().err
    assert run(source, "-o", out, "--train-tokenizer", "--vocab-size", 10) == 1
    assert "must be at least 257" in capsys.readouterr().err
    assert run(source, "-o", out) == 2
    assert run("-o", out, "--train-tokenizer", "--vocab-size", 300) == 2
    assert run(source, "-o", out, "--train-tokenizer") == 2
    assert not out.exists()


def test_without_the_library_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install 'blendlaw\[corpus\]'"):
        prepare([(None, str(tmp_path))], tmp_path / "out", TRAIN)


def test_file_names_of_languages() -> None:
    names = ["C#", "C++", "C", "Objective-C", "Go", "Кобра 9", "A B", "a/b", "…", "../x"]
    found = slugs(names)
    assert [found[name] for name in names[:6]] == [
        "csharp",
        "cpp",
        "c",
        "objective-c",
        "go",
        "кобра-9",
    ]
    assert len(set(found.values())) == len(names)
    assert all(slug and not set(slug) & set("/. ") for slug in found.values())


# The files by themselves.


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), max_size=40),
    vocabulary=st.sampled_from([300, 65499, 65500, 200_000]),
    seed=st.integers(0, 2**32),
)
def test_writer_and_reader_agree(
    lengths: list[int], vocabulary: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("indexed")
    dtype = token_dtype(vocabulary)
    generator = np.random.default_rng(seed)
    documents = [generator.integers(0, vocabulary, n).astype(dtype) for n in lengths]
    with IndexedWriter(folder / "ours", dtype) as writer:
        for document in documents[:5]:
            writer.add(document)
        rest = documents[5:]
        (folder / "rest").write_bytes(b"".join(d.tobytes() for d in rest))
        writer.extend(folder / "rest", np.array([len(d) for d in rest], np.int32))
    if sum(lengths):
        found = read_documents(folder / "ours")
        assert all(np.array_equal(a, b) for a, b in zip(found, documents, strict=True))
        assert count_tokens(str(folder / "ours")) == sum(lengths)


def test_a_failed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    prefix = tmp_path / "x"
    with IndexedWriter(prefix, DTYPES[8]) as writer:
        writer.add(np.arange(5, dtype=np.uint16))
    before = contents_of(tmp_path)
    (tmp_path / "tokens").write_bytes(b"odd")
    with (
        pytest.raises(InputError, match="should hold 18 bytes"),
        IndexedWriter(prefix, DTYPES[8]) as writer,
    ):
        writer.extend(tmp_path / "tokens", np.array([9], np.int32))
    (tmp_path / "tokens").unlink()
    assert contents_of(tmp_path) == before
    (tmp_path / "x.bin").write_bytes(b"12")
    with pytest.raises(InputError, match=r"not the index of its \.bin"):
        read_documents(prefix)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_texts_are_found_in_any_number_of_rounds(
    inputs: list[tuple[str | None, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(inputs, tmp_path / "one", TRAIN)
    monkeypatch.setattr("blendlaw.corpus.scan.AT_ONCE", 7)
    prepare(inputs, tmp_path / "two", TRAIN)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")

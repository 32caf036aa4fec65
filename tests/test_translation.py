"""Documents to be scored, and the scores of directions, against plain loops."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from blendlaw.cli import main
from blendlaw.errors import InputError
from blendlaw.pairs.coder import Padded, read_padded
from blendlaw.pairs.documents import Documents, read_documents
from blendlaw.pairs.translation import Translation, translation
from blendlaw.samplecode.parallel import generate_parallel

pytest.importorskip("tokenizers", reason="needs tokenizers")

LANGUAGES = ("Python", "Go", "Rust")


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Padded:
    from blendlaw.corpus.tokens import train

    folder = tmp_path_factory.mktemp("tokenizer")
    tasks = generate_parallel(folder, 20)
    texts = [text for line in tasks.open() for text in json.loads(line)["docs"].values()]
    path = folder / "tokenizer.json"
    path.write_text(train(iter(texts), 400, ("<|endoftext|>", "<|pad|>")))
    return read_padded(path, "<|endoftext|>", "<|pad|>")


def written(folder: Path, tasks: list[dict[str, str]]) -> str:
    path = folder / "tasks.jsonl"
    rows = [{"id": str(number), "docs": docs} for number, docs in enumerate(tasks)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


TASKS = [
    {"Python": "def f(a):\n    return a", "Go": "func f(a int) int { return a }"},
    {"Python": "x: int = 1", "Go": "x := 1", "Rust": "let x = 1;"},
    {"Python": "y: int = 2", "Rust": "let y = 2;" * 300},
]


def test_documents_are_what_is_trained(tmp_path: Path, padded: Padded) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(padded.coding.file))
    made = read_documents([written(tmp_path, TASKS)], LANGUAGES, padded, "prompt", 256)
    assert made.tasks == ("0", "1", "2")
    assert made.directions == tuple(permutations(LANGUAGES, 2))
    assert made.too_long == 2
    assert len(made.task) == 2 + 6
    for number in range(8):
        docs = TASKS[made.task[number]]
        source, target = made.directions[made.direction[number]]
        whole = made.tokens[made.begins[number] : made.begins[number + 1]]
        translated = whole[made.starts[number] : made.ends[number]].tolist()
        assert tokenizer.decode(translated) == docs[target]
        prompt = tokenizer.decode(whole[: made.starts[number]].tolist())
        assert docs[source] in prompt
        assert target in prompt
        assert docs[target] not in prompt
    direct = read_documents([written(tmp_path, TASKS)], LANGUAGES, padded, "direct", 256)
    assert len(direct.tokens) < len(made.tokens)


def test_nothing_to_evaluate(tmp_path: Path, padded: Padded) -> None:
    with pytest.raises(InputError, match="no pair of at most 3 tokens"):
        read_documents([written(tmp_path, TASKS[:1])], LANGUAGES, padded, "direct", 3)
    with pytest.raises(InputError, match=r"tasks\.jsonl:1.*one side only"):
        read_documents([written(tmp_path, [{"Go": "x"}])], LANGUAGES, padded, "direct", 99)


def documents(tasks: int, seed: int) -> Documents:
    """Targets of some tokens in some directions of each task."""
    random = np.random.default_rng(seed)
    directions = tuple(permutations(LANGUAGES, 2))
    rows = [(t, d) for t in range(tasks) for d in range(6) if d == 0 or random.random() < 0.7]
    task, direction = np.array(rows).T
    sizes = random.integers(1, 50, len(rows))
    begins = np.append(0, np.cumsum(sizes + 3))
    names = tuple(str(number) for number in range(tasks))
    starts = np.full(len(rows), 3)
    tokens = np.zeros(begins[-1], np.uint16)
    return Documents(names, directions, task, direction, tokens, begins, starts, starts + sizes, 0)


def scored(made: Documents, nats: np.ndarray, trained: set[tuple[str, str]]) -> Translation:
    return translation(
        made, nats, trained, run="r", step=5, params=1e6, tokens=1e9, strategy="direct"
    )


def test_means_are_over_tokens() -> None:
    made = documents(9, 1)
    nats = np.random.default_rng(2).uniform(0, 90, len(made.task))
    trained = {("Python", "Go"), ("Go", "Python")}
    found = scored(made, nats, trained)
    sizes = made.ends - made.starts
    for one in found.directions:
        chosen = made.direction == made.directions.index((one.source, one.target))
        assert one.score.loss == pytest.approx(nats[chosen].sum() / sizes[chosen].sum())
        assert (one.score.pairs, one.score.tokens) == (chosen.sum(), sizes[chosen].sum())
        assert one.trained == ((one.source, one.target) in trained)
        low, high = one.score.interval
        assert low <= one.score.loss <= high
    known = np.array([made.directions[d] in trained for d in made.direction])
    for score, chosen in ((found.trained, known), (found.untrained, ~known)):
        assert score is not None
        assert score.loss == pytest.approx(nats[chosen].sum() / sizes[chosen].sum())
    assert Translation.from_json(found.to_json()) == found
    assert scored(made, nats, set()).trained is None


def test_intervals_cover() -> None:
    """Of losses drawn around a mean, with tasks that are harder and easier, nine in ten."""
    hits = 0
    for seed in range(100):
        made = documents(40, seed)
        random = np.random.default_rng(1000 + seed)
        hard = random.normal(2.0, 0.5, 40)
        sizes = made.ends - made.starts
        found = scored(made, hard[made.task] * sizes, set())
        assert found.untrained is not None
        low, high = found.untrained.interval
        hits += low <= 2.0 <= high
    assert 80 <= hits <= 97


def test_what_the_command_refuses(
    tmp_path: Path, padded: Padded, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[run]\nparams = 1e6\ntokens = 1e6\n[languages.Python]\n[languages.Go]\n")
    tasks = written(tmp_path, TASKS[:1])
    line = ["translate-eval", str(plan), tasks, "--dir", str(tmp_path)]
    for more, message in (
        ([], "--tokenizer"),
        (["--tokenizer", tasks], "not a tokenizer"),
        (["--tokenizer", str(padded.coding.file), "--strategy", "shuffled"], "shuffled"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*line, *more])
        assert ended.value.code in (1, 2)
        assert message in capsys.readouterr().err

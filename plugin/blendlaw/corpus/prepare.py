"""Inputs to a corpus: scan, choose, train or take a tokenizer, encode, put together.

The result depends on the inputs and the options alone, not on how many processes work or where
they were killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendlaw.corpus import scan
from blendlaw.corpus.inputs import MAX_LANGUAGES, Piece, find_pieces
from blendlaw.corpus.job import clear, opened_job
from blendlaw.corpus.options import Options
from blendlaw.corpus.result import (
    Corpus,
    Part,
    TokenizerUsed,
    checked_folder,
    part,
    slugs,
    starter_plan,
    total,
)
from blendlaw.corpus.tokens import (
    SPLITS,
    Coding,
    encode,
    read_chosen,
    read_coding,
    require_tokenizers,
    train,
)
from blendlaw.corpus.workers import Workers
from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.indexed import IndexedWriter

MAX_TOKENIZER = 1 << 28
Counts = NDArray[np.int64]
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def prepare(
    inputs: Sequence[tuple[str | None, str]],
    output: str | Path,
    options: Options,
    *,
    workers: int = 1,
    bar: Bar = lambda _: nullcontext(lambda _done, _total: None),
    say: Callable[[str], None] = lambda _: None,
) -> Corpus:
    """Prepare ``inputs``, each (its language or None, its path), in the folder ``output``.

    Killed and called again with the same arguments it goes on, and once done it returns what is
    there. With more than one worker, the caller's main module must be importable, as
    ``multiprocessing`` wants it. Raises InputError, OSError.
    """
    require_tokenizers()
    output = Path(output)
    checked_folder(output)
    given = None
    if options.tokenizer is not None:
        given = read_text(options.tokenizer, MAX_TOKENIZER)
        read_coding(Path(options.tokenizer), options.eod)
    pieces, seen = find_pieces(inputs, options.piece_bytes)
    request = asdict(options) | {"inputs": seen, "languages": [name for name, _ in inputs]}
    request["tokenizer"] = given and sha256(given.encode()).hexdigest()
    with opened_job(output, request) as folder:
        if not (output / "corpus.json").exists():
            with Workers(workers) as crew:
                _Job(pieces, output, folder, options, crew, bar, say).run(given)
        clear(folder)
    return Corpus.from_json((output / "corpus.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class _Texts:
    """What the scan found. Counts are (languages, splits); of files, with duplicates."""

    languages: dict[str, int]
    skipped: dict[str, int]
    keep: list[scan.Bools]
    files: Counts
    documents: Counts
    bytes: Counts


@dataclass(frozen=True)
class _Job:
    pieces: list[Piece]
    output: Path
    folder: Path
    options: Options
    crew: Workers
    bar: Bar
    say: Callable[[str], None]

    def run(self, tokenizer: str | None) -> None:
        """Everything; corpus.json is written last."""
        texts = self._scan()
        trained = tokenizer is None
        coding = self._coding(tokenizer, texts)
        work = (
            (self._tokens(number), piece, records, keep, target, self.options.max_bytes, coding)
            for number, (piece, records, keep, target) in enumerate(self._scanned(texts))
        )
        self._go_through("encoding", self.crew.in_order(encode, work))
        parts = self._put_together(texts, coding)
        file = self.output / "tokenizer.json"
        content = coding.file.read_bytes()
        write_atomically(file, content)
        used = TokenizerUsed(
            file.name,
            sha256(content).hexdigest(),
            coding.vocabulary,
            coding.eod,
            coding.eod_id,
            coding.dtype.name,
            trained,
        )
        all_parts = total(one for splits in parts.values() for one in splits.values())
        corpus = Corpus(parts, all_parts, texts.skipped, used, self.options.valid_share)
        write_atomically(self.output / "plan.toml", starter_plan(corpus, self.output))
        write_atomically(self.output / "corpus.json", corpus.to_json())

    def _go_through(self, title: str, results: Iterator[object]) -> None:
        """Do the work of all pieces, shown by their bytes."""
        done, everything = 0, sum(piece.size for piece in self.pieces)
        with self.bar(title) as progress:
            for piece, _ in zip(self.pieces, results, strict=True):
                done += piece.size
                progress(done, everything)

    def _tokens(self, number: int) -> Path:
        return self.folder / "tokens" / f"{number:06d}"

    def _scan(self) -> _Texts:
        folder = self.folder / "scan"
        limits = scan.Limits(self.options.max_bytes, self.options.strict)
        work = ((number, piece, folder, limits) for number, piece in enumerate(self.pieces))
        self._go_through("scanning", self.crew.in_order(scan.scan, work))
        languages: dict[str, int] = {}
        skipped: Counter[str] = Counter()
        counts: list[int] = []
        examples: list[str] = []
        for number in range(len(self.pieces)):
            found = scan.load(number, folder)
            for name in found.languages:
                languages.setdefault(name, len(languages))
            counts.append(len(found.records))
            skipped.update(found.skipped)
            examples += found.examples[: scan.SHOWN - len(examples)]
        for example in examples:
            self.say(f"skipped {example}")
        if len(languages) > MAX_LANGUAGES:
            raise InputError(f"more than {MAX_LANGUAGES:,} languages", value=len(languages))
        keep = scan.first_of_each(folder, counts)
        files, documents, size = np.zeros((3, len(languages) * len(SPLITS)), np.int64)
        texts = _Texts(
            languages,
            dict(sorted(skipped.items())),
            keep,
            *(of.reshape(-1, len(SPLITS)) for of in (files, documents, size)),
        )
        for _, records, kept, target in self._scanned(texts):
            files += np.bincount(target, minlength=len(files))
            documents += np.bincount(target[kept], minlength=len(files))
            np.add.at(size, target[kept], records["bytes"][kept].astype(np.int64))
        if not texts.documents[:, 0].any():
            raise InputError("no text for training is left", value=texts.skipped or None)
        return texts

    def _scanned(
        self, texts: _Texts
    ) -> Iterator[tuple[Piece, scan.Records, scan.Bools, NDArray[np.int64]]]:
        """Each piece, its records, which to keep, and the language and split each belongs to.

        The last is the index of the language times the splits, plus that of the split.
        """
        for number, piece in enumerate(self.pieces):
            found = scan.load(number, self.folder / "scan")
            records = found.records
            index = np.array([texts.languages[name] for name in found.languages], np.int64)
            valid = scan.for_validation(records, self.options.valid_share)
            target = index[records["language"]] * len(SPLITS) + valid
            yield piece, records, texts.keep[number], target

    def _coding(self, given: str | None, texts: _Texts) -> Coding:
        """The tokenizer, trained where none is given; kept for when the job goes on."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            write_atomically(path, given if given is not None else self._trained(texts))
        coding = read_coding(path, self.options.eod)
        wanted = self.options.vocab_size
        if wanted is not None and coding.vocabulary < wanted:
            self.say(f"the texts have no more than {coding.vocabulary:,} tokens, not {wanted:,}")
        return coding

    def _trained(self, texts: _Texts) -> str:
        """A tokenizer trained on as many bytes of each language, where it has so many."""
        each = self.options.sample_bytes / len(texts.languages)
        share = np.zeros(texts.bytes.size)  # nothing of the validation split
        share[:: len(SPLITS)] = np.minimum(1, each / np.maximum(texts.bytes[:, 0], 1))
        work = (
            (piece, records, keep & scan.sampled(records, share[target]), self.options.max_bytes)
            for piece, records, keep, target in self._scanned(texts)
        )
        assert self.options.vocab_size is not None
        with self.bar("training the tokenizer") as progress:

            def sample() -> Iterator[str]:
                for done, found in enumerate(self.crew.in_order(read_chosen, work)):
                    yield from found
                    progress(done + 1, len(self.pieces))

            return train(sample(), self.options.vocab_size, self.options.special)

    def _put_together(self, texts: _Texts, coding: Coding) -> dict[str, dict[str, Part]]:
        """The files of each language and split, from those of the pieces."""
        parts: dict[str, dict[str, Part]] = {}
        named = slugs(texts.languages)
        with self.bar("writing") as progress:
            for name, index in texts.languages.items():
                parts[name] = {}
                for number, split in enumerate(SPLITS):
                    prefix = self.output / f"{named[name]}_{split}"
                    tokens = self._write(prefix, index * len(SPLITS) + number, coding)
                    files, documents, size = (
                        int(of[index, number]) for of in (texts.files, texts.documents, texts.bytes)
                    )
                    parts[name][split] = part(
                        prefix.name if tokens else None, files, documents, size, tokens
                    )
                progress(index + 1, len(texts.languages))
        return parts

    def _write(self, prefix: Path, target: int, coding: Coding) -> int:
        """One language's split; how many tokens. Without documents there is no file."""
        folders = map(self._tokens, range(len(self.pieces)))
        found = [path for f in folders if (path := f / f"{target}.tokens").exists()]
        tokens = 0
        if found:
            with IndexedWriter(prefix, coding.dtype) as writer:
                for path in found:
                    lengths = np.fromfile(path.with_suffix(".lengths"), "<i4")
                    writer.extend(path, lengths)
                    tokens += int(lengths.sum(dtype=np.int64))
        return tokens

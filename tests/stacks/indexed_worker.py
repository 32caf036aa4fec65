"""Megatron's own builder and reader on what blendlaw wrote: ``FOLDER/NAME.bin`` and ``.idx``.

``FOLDER/NAME.npz`` holds the documents' tokens, their lengths and the size of the vocabulary. Run
apart from the tests, which do not import torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

for path in sorted(Path(sys.argv[1]).glob("*.npz")):
    given = np.load(path)
    documents = np.split(given["tokens"], given["lengths"].cumsum())[:-1]
    ours, theirs = path.with_suffix(""), path.with_suffix(".theirs")
    builder = IndexedDatasetBuilder(f"{theirs}.bin", DType.optimal_dtype(int(given["vocabulary"])))
    for document in documents:
        builder.add_document(torch.from_numpy(document), [len(document)])
    builder.finalize(f"{theirs}.idx")
    for suffix in (".bin", ".idx"):
        assert Path(f"{ours}{suffix}").read_bytes() == Path(f"{theirs}{suffix}").read_bytes(), ours
    if sum(map(len, documents)):  # an empty file cannot be mapped
        found = IndexedDataset(str(ours))
        assert len(found) == len(documents) == len(found.document_indices) - 1, ours
        assert all(np.array_equal(a, b) for a, b in zip(found, documents, strict=True)), ours
    print("same", path.stem)

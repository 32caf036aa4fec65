"""Megatron's own reader on packed pairs: ``python pairs_worker.py PREFIX OUT.npy``.

Every stored document of PREFIX, (sequences, S), is written to OUT.npy. Run apart from the tests,
which do not import torch.
"""

from __future__ import annotations

import sys

import numpy as np
from megatron.core.datasets.indexed_dataset import IndexedDataset

dataset = IndexedDataset(sys.argv[1])
assert len(dataset) == len(dataset.document_indices) - 1
np.save(sys.argv[2], np.stack([dataset[number] for number in range(len(dataset))]))

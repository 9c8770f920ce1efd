"""Records scikit-learn's shuffled k-fold, which nnU-Net deals its cases by (nnunetv2/utilities/crossval_split.py).

    python tests/data/kfold.py > tests/data/kfold.json

numpy 2.4.6, scikit-learn 1.9.1. `folds` are the indices that each fold tests on, ascending.
"""
import json

import numpy as np
from sklearn.model_selection import KFold

SEEDS = [12345, 0, 1, 4294967295]
SIZES = [(2, 2), (5, 5), (6, 5), (9, 3), (12, 5), (31, 4), (64, 10), (65, 2), (131, 5), (260, 5), (1000, 7)]

splits = []
for seed in SEEDS:
    for cases, folds in SIZES if seed == 12345 else SIZES[:9]:
        tested = [test.tolist() for _, test in KFold(folds, shuffle=True, random_state=seed).split(np.zeros(cases))]
        splits.append({"seed": seed, "cases": cases, "folds": tested})

# What they are drawn from, for a fault to be found where it is: the first words of the generator, then far ones.
words = []
for seed in SEEDS:
    drawn = np.random.RandomState(seed).randint(0, 2**32, size=2000, dtype=np.uint32)
    raw = np.random.MT19937()
    raw._legacy_seeding(seed)
    raw = [int(word) for word in raw.random_raw(2000)]
    assert raw == drawn.tolist()
    words.append({"seed": seed, "first": raw[:4], "from_1300": raw[1300:1304]})

print("{\n \"words\": [")
print(",\n".join("  " + json.dumps(entry) for entry in words))
print(" ],\n \"splits\": [")
print(",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in splits))
print(" ]\n}")

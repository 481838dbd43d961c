import os
from pathlib import Path

import numpy as np
import pytest

from pairs_lit.cli import main
from pairs_lit.runs.tables import read_rounds
from tests.conftest import CONFIGS

BELHADJ = {"fc": (0.7941, 0.0190), "fc_aux": (0.8143, 0.0344), "cnn": (0.8428, 0.0106), "cnn_aux": (0.8759, 0.0162)}
"""Published mean and std of the best test epoch over 10 rounds."""

TRAINED = BELHADJ if "PAIRS_LIT_LONG" in os.environ else ("fc", "cnn_aux")
"""One network of each kind, one of them with the auxiliary loss; the others combine the same parts."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_ten_rounds_on_mnist_reproduce_the_published_accuracy(name: str, mnist_root: Path, tmp_path: Path) -> None:
    options = ["--data.source", "mnist", "--data.root", str(mnist_root), "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *options]) == 0
    (table,) = tmp_path.glob("lightning_logs/*/*/rounds.csv")
    best = [result.best_test_accuracy for result in read_rounds(table)]
    mean, std = BELHADJ[name]
    assert len(best) == 10
    assert abs(np.mean(best) - mean) < 2 * std

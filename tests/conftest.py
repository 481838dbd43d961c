import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pairs_lit.cli import main
from tests.support.mnist_files import write_mnist

# for such small networks, a second thread only waits for the first, and for a long time on a busy machine
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all but n cases of each test that is marked ``quick(n)`` as slow."""
    cases: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("quick"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for same in cases.values():
        (count,) = same[0].get_closest_marker("quick").args
        for item in set(same) - set(_covering(same, count)):
            item.add_marker(pytest.mark.slow)


def _covering(cases: list[pytest.Function], count: int) -> list[pytest.Function]:
    """Choose cases one by one such that each adds as many new parameter values as possible."""
    golden = (5**0.5 - 1) / 2
    left = [case for _, case in sorted(enumerate(cases), key=lambda each: each[0] * golden % 1)]
    chosen: list[pytest.Function] = []
    seen: set[tuple[str, int]] = set()
    for _ in range(min(count, len(cases))):
        best = max(left, key=lambda case: len(set(case.callspec.indices.items()) - seen))
        left.remove(best)
        chosen.append(best)
        seen |= set(best.callspec.indices.items())
    return chosen


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 400 training and 200 test digits in MNIST's format, which need ``allow_unverified``."""
    return write_mnist(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    root = Path(os.environ.get("PAIRS_LIT_DATA", "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip("MNIST not found: set PAIRS_LIT_DATA to the folder that contains MNIST/raw")
    return root


@pytest.fixture(autouse=True)
def _no_randomness_from_outside() -> None:
    torch.manual_seed(12345)


Fit = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_options(tiny_root: Path) -> list[str]:
    """Options with which any config runs on the synthetic digits in about a second."""
    return [
        "--data.root", str(tiny_root),
        "--data.source", "mnist",
        "--data.allow_unverified", "true",
        "--data.train_pairs", "40",
        "--data.val_pairs", "20",
        "--data.test_pairs", "30",
        "--data.batch_size", "16",
        "--rounds.count", "3",
        "--trainer.max_epochs", "2",
    ]  # fmt: skip


ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"


@pytest.fixture
def fit(tiny_options: list[str], tmp_path: Path) -> Fit:
    """Return a function that runs ``pairs-lit fit`` on the synthetic digits and returns the run folder."""

    def run(*options: str, config: str | Path = "cnn_aux") -> Path:
        file = config if isinstance(config, Path) else CONFIGS / f"{config}.yaml"
        before = set(tmp_path.glob("lightning_logs/*/*"))
        arguments = ["fit", "--config", str(file), *tiny_options, "--trainer.default_root_dir", str(tmp_path), *options]
        assert main(arguments) == 0
        (folder,) = set(tmp_path.glob("lightning_logs/*/*")) - before
        return folder

    return run

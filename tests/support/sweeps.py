"""Small sweep files and trials for tests."""

from pathlib import Path
from typing import Any

from pairs_lit.sweeps.trial import Trial

ALPHA, LR = "model.loss.aux_weight", "model.optimizer.init_args.lr"


def build_spec(**changes: object) -> dict[str, Any]:
    """Return the content of a small sweep file."""
    return {"space": {ALPHA: [0.1, 1.0]}, "rounds": {"count": 2}} | changes


def build_trial(number: int, *scores: float, failed: tuple[int, ...] = ()) -> Trial:
    return Trial(number, {"a": number}, dict(enumerate(scores)), failed, Path(str(number)), {"source": "mnist"})


def build_tiny_changes(tiny_root: Path, folder: Path) -> dict[str, object]:
    """Return changes that make a bundled config run on the synthetic digits."""
    return {
        "data.root": tiny_root,
        "data.source": "mnist",
        "data.allow_unverified": True,
        "data.train_pairs": 40,
        "data.val_pairs": 20,
        "data.test_pairs": 30,
        "data.batch_size": 16,
        "trainer.max_epochs": 2,
        "trainer.default_root_dir": folder,
        "trainer.devices": 1,
    }

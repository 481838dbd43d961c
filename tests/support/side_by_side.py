"""Helpers that train variants side by side in one fit, or each variant alone."""

from pathlib import Path
from typing import Any

import yaml

import pairs_lit
from pairs_lit import Run
from pairs_lit.variants.fits import fit_variants, group_into_fits
from pairs_lit.variants.reading import read_variants

ROUNDS = 6


SAME_SPLIT_SIZE = 4
"""A stack size that splits a variant's rounds into stacks of 4 and 2, alone and side by side.

So the results of both are byte-identical.
"""


ADAM = {"class_path": "torch.optim.Adam"}
FC = {"class_path": "pairs_lit.nn.backbones.FC", "init_args": {"widths": [8, 10]}}


def build_config(root: Path, **model: object) -> dict[str, Any]:
    """Return the config of a tiny fit, with changes to parts of the model."""
    parts = {
        "backbone": FC,
        "head": {"class_path": "pairs_lit.nn.heads.MLP"},
        "readout": "identity",
        "loss": {"digits": "ce", "aux_weight": 0.5},
        "optimizer": ADAM,
    }
    data = {"root": str(root), "source": "mnist", "allow_unverified": True, "batch_size": 16, "watch_test": False}
    return {
        "data": data | {"train_pairs": 40, "val_pairs": 20, "test_pairs": 30, "normalise": "unit"},
        "model": parts | model,
        "trainer": {"max_epochs": 3, "enable_progress_bar": False},
    }


def fit_side_by_side(
    tmp_path: Path, content: dict[str, Any], variants: list[dict[str, Any]], size: int = SAME_SPLIT_SIZE, **more: object
) -> list[Run]:
    """Train variants side by side in one fit, and return their runs."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    common = {"rounds.count": ROUNDS, "rounds.stack_size": size} | more
    base = [f"--config={tmp_path / 'base.yaml'}"]
    plans = read_variants(base, [common | changes for changes in variants])
    assert group_into_fits(plans) == [list(range(len(variants)))]
    folders = [tmp_path / "runs" / str(number) for number in range(len(variants))]
    fit_variants(base, plans, folders, tmp_path / "work")
    return [Run.load(folder) for folder in folders]


def fit_alone(tmp_path: Path, content: dict[str, Any], changes: dict[str, Any]) -> Run:
    common = {
        "rounds.count": ROUNDS,
        "rounds.stack_size": SAME_SPLIT_SIZE,
        "trainer.default_root_dir": tmp_path / "alone",
    }
    return pairs_lit.fit(content, common | changes)


def check_same_bytes(slice_: Run, own: Run) -> None:
    for file in ("rounds.csv", "curves.csv"):
        assert (slice_.folder / file).read_bytes() == (own.folder / file).read_bytes(), file

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from pairs_lit import PairDataModule, PairLoss, PairModule, PairsLitError, RoundRunner
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def fit(root: Path, runner: RoundRunner, model_seeds: list[int], data_seeds: list[int]) -> PairDataModule:
    counts = {"train_pairs": 20, "val_pairs": 10, "test_pairs": 10}
    data = PairDataModule(
        seeds=data_seeds, source="mnist", root=str(root), allow_unverified=True, batch_size=10, **counts
    )
    loss = PairLoss(digits="none")
    module = PairModule(seeds=model_seeds, stack_size=2, backbone=FC, head=MLP, loss=loss)
    Trainer(max_epochs=1, callbacks=[runner], **QUIET).fit(module, data)
    return data


def test_data_use_the_stacks_of_the_module(tiny_root: Path) -> None:
    data = fit(tiny_root, RoundRunner(count=3), [0, 1, 2], [0, 1, 2])
    assert data.rounds.stacks == [slice(0, 2), slice(2, 3)]


@pytest.mark.parametrize(
    ("name", "model_seeds", "data_seeds"), [("PairModule", [1, 2], [0, 1]), ("PairDataModule", [0, 1], [1, 2])]
)
def test_different_seeds_are_rejected(
    tiny_root: Path, name: str, model_seeds: list[int], data_seeds: list[int]
) -> None:
    message = rf"{name} has seeds 1 to 2, but RoundRunner has seeds 0 to 1\. Set {name}\(seeds=runner\.seeds\)\."
    with pytest.raises(PairsLitError, match=message):
        fit(tiny_root, RoundRunner(count=2), model_seeds, data_seeds)

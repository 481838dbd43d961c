"""Trained networks: the plain network of each round says what the run said, whatever it was stacked into."""

from pathlib import Path

import pytest
import torch

import pairs_lit
from pairs_lit.errors import PairsLitError

SMALL = {
    "data.source": "digits",
    "data.train_pairs": 60,
    "data.val_pairs": 20,
    "data.test_pairs": 30,
    "rounds.count": 3,
    "rounds.seed": 4,
    "rounds.stack_size": 2,
    "trainer.max_epochs": 2,
    "trainer.devices": 1,
    "trainer.enable_progress_bar": False,
}
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "parts": ("cnn_aux", {}),
    "separate": ("cnn", {"model.sharing": "separate", "data.normalise": "standard"}),
    "joint": (
        "fc",
        {"model.sharing": "joint", "model.readout": "none", "model.loss.digits": "none", "data.normalise": "unit"},
    ),
    "linear read-out": ("reports/pillonel/model4", {}),
    "digit head": ("reports/grall/b_classes_ce", {}),
    "two logits, batch norm": ("reports/gardoni/ws_aux_bn", {}),
    "whole network": ("fc_aux", {"model.network": "tests.pair_parts.Siamese"}),
    "loop": ("fc", {"model.backbone": "tests.field_parts.Altered"}),
}


def fitted(case: str, root: Path) -> pairs_lit.Run:
    config, changes = CASES[case]
    return pairs_lit.fit(config, {**SMALL, "trainer.default_root_dir": root, **changes})


@pytest.mark.parametrize("case", CASES)
def test_a_plain_network_says_what_its_round_said(case: str, tmp_path: Path) -> None:
    run = fitted(case, tmp_path)
    bank = run.trained.data.bank
    pairs = bank.pairs["test"]
    for place, seed in enumerate(run.trained.seeds):
        images = bank.gather(pairs.index, slice(None))[place]
        said = run.network(seed)(images)
        probability, digits = said if isinstance(said, tuple) else (said, None)
        right = ((probability > 0.5) == pairs.target[place]).double().mean().item()
        assert right == pytest.approx(run.values("test_accuracy")[seed])
        if digits is not None and "test_digit_accuracy" in run.summary:
            read = (digits.argmax(-1) == pairs.digits[place]).double().mean().item()
            assert read == pytest.approx(run.values("test_digit_accuracy")[seed])


def test_all_rounds_answer_for_the_same_pairs(tmp_path: Path) -> None:
    run = fitted("parts", tmp_path)
    images = torch.randint(0, 256, (7, 2, 28, 28), generator=torch.Generator().manual_seed(0))
    answers = run.trained.answers(images)
    assert answers.digits is not None
    for place, seed in enumerate(run.trained.seeds):
        prepared = run.trained.preprocessing(seed)(images)
        probability, logits = run.network(seed)(prepared)
        torch.testing.assert_close(answers.probability[place], probability, atol=1e-5, rtol=0)
        torch.testing.assert_close(answers.digits[place], logits.softmax(-1), atol=1e-5, rtol=0)


def test_a_seed_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = fitted("parts", tmp_path)
    with pytest.raises(PairsLitError, match=r"no round of seed 3 in this run: its seeds are 4 to 6\."):
        run.network(3)


def test_a_run_without_its_weights_is_refused(tmp_path: Path) -> None:
    run = fitted("parts", tmp_path)
    (run.folder / "checkpoints/last.ckpt").unlink()
    with pytest.raises(PairsLitError, match=r"has no checkpoints/last\.ckpt, which holds the trained weights"):
        pairs_lit.open_run(run.folder)

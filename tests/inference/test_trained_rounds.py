"""Trained networks: each single-round network predicts what its round predicted in the stack."""

import shutil
from pathlib import Path

import pytest
import torch

import pairs_lit
from pairs_lit.errors import PairsLitError
from pairs_lit.inference import trained_rounds
from tests.support.small_runs import CASES, SMALL, RunCache, fit_case


@pytest.mark.parametrize("case", CASES)
@pytest.mark.quick(2)
def test_a_single_round_network_predicts_what_its_round_predicted(case: str, runs: RunCache) -> None:
    run = runs(case)
    bank = run.trained.data.bank
    pairs = bank.pairs["test"]
    for place, seed in enumerate(run.trained.seeds):
        images = bank.gather_images(pairs.index, slice(None))[place]
        outputs = run.network(seed)(images)
        probability, digits = outputs if isinstance(outputs, tuple) else (outputs, None)
        right = ((probability > 0.5) == pairs.target[place]).double().mean().item()
        assert right == pytest.approx(run.values("test_accuracy")[seed])
        if digits is not None and "test_digit_accuracy" in run.summary:
            read = (digits.argmax(-1) == pairs.digits[place]).double().mean().item()
            assert read == pytest.approx(run.values("test_digit_accuracy")[seed])


@pytest.mark.parametrize("case", ["parts", "members"])
@pytest.mark.quick(1)
def test_all_rounds_predict_the_same_pairs(case: str, runs: RunCache) -> None:
    run = runs(case)
    images = torch.randint(0, 256, (7, 2, 28, 28), generator=torch.Generator().manual_seed(0))
    answers = run.trained.predict(images)
    assert answers.digits is not None
    for place, seed in enumerate(run.trained.seeds):
        prepared = run.trained.preprocessing(seed)(images)
        probability, logits = run.network(seed)(prepared)
        torch.testing.assert_close(answers.probability[place], probability, atol=1e-5, rtol=0)
        torch.testing.assert_close(answers.digits[place], logits.softmax(-1), atol=1e-5, rtol=0)


def test_large_images_are_predicted_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"data.resize": 56, "data.image_size": 56, "trainer.default_root_dir": tmp_path}
    run = pairs_lit.fit("cnn_aux", {**SMALL, **large})
    images = torch.randint(0, 256, (5, 2, 56, 56), generator=torch.Generator().manual_seed(0))
    expected, sizes = run.trained.predict(images), list[int]()
    predict = run.trained.module.predict_batch
    monkeypatch.setattr(trained_rounds, "_PAIRS_PER_BATCH", 8)
    monkeypatch.setattr(
        run.trained.module, "predict_batch", lambda batch: (sizes.append(batch.images.shape[1]), predict(batch))[1]
    )
    torch.testing.assert_close(run.trained.predict(images).probability, expected.probability, atol=1e-6, rtol=0)
    assert sizes == [2, 2, 2, 2, 1, 1]  # two stacks


def test_the_data_of_an_opened_run_come_in_its_stacks(runs: RunCache) -> None:
    trained = runs("parts").trained
    assert [stack.stop - stack.start for stack in trained.module.rounds.stacks] == [2, 1]
    shapes = [batch.images.shape[0] for batch in trained.data.predict_dataloader()]
    assert shapes == [2, 1]


def test_a_seed_that_is_not_there_is_named(runs: RunCache) -> None:
    run = runs("parts")
    with pytest.raises(PairsLitError, match=r"no round of seed 3 in this run: it has seeds 4 to 6\."):
        run.network(3)


def test_a_run_without_its_weights_is_refused(tmp_path: Path) -> None:
    run = fit_case("parts", tmp_path)
    (run.folder / "checkpoints/last.ckpt").unlink()
    with pytest.raises(PairsLitError, match=r"has no checkpoints/last\.ckpt, the file of the trained weights"):
        pairs_lit.open_run(run.folder)


@pytest.fixture
def parts(runs: RunCache) -> pairs_lit.Run:
    return runs("parts")


def random_pairs(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 2, 14, 14), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.quick(1)
def test_calling_the_module_predicts_for_all_rounds(case: str, runs: RunCache) -> None:
    run = runs(case)
    module = pairs_lit.PairModule.load_from_checkpoint(run.folder / "checkpoints/last.ckpt").eval()
    shown, each = random_pairs(5), random_pairs(3, 5)
    with torch.no_grad():
        for images, own in ((shown, [shown] * 3), (each, list(each))):
            outputs = module(images)
            assert outputs.shape == (3, 5)
            for place, seed in enumerate(module.rounds.seeds):
                plain = run.network(seed)(own[place])
                probability = plain[0] if isinstance(plain, tuple) else plain
                torch.testing.assert_close(outputs[place], probability, atol=1e-5, rtol=0)


def test_a_called_module_passes_gradients_to_its_images(parts: pairs_lit.Run) -> None:
    module = pairs_lit.PairModule.load_from_checkpoint(parts.folder / "checkpoints/last.ckpt")
    assert module.training
    images = random_pairs(4).requires_grad_()
    module(images)[1].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (random_pairs(2, 4), r"floats of shape \(B, 2, 14, 14\) .* got shape \(2, 4, 2, 14, 14\) and torch\.float32\."),
        (torch.zeros(4, 2, 28, 28), r"or \(3, B, 2, 14, 14\) for each round, got shape \(4, 2, 28, 28\)"),
        (torch.zeros(4, 2, 14, 14, dtype=torch.uint8), r"images must be prepared floats .* and torch\.uint8"),
        (torch.zeros(2, 14, 14), r"shape \(2, 14, 14\)"),
    ],
)
def test_images_of_another_shape_are_rejected(images: torch.Tensor, message: str, parts: pairs_lit.Run) -> None:
    with pytest.raises(PairsLitError, match=message):
        parts.trained.module(images)


def test_an_unfinished_run_is_loaded_from_its_checkpoint(parts: pairs_lit.Run, tmp_path: Path) -> None:
    unfinished = shutil.copytree(parts.folder, tmp_path / "unfinished")
    (unfinished / "summary.json").unlink()
    module = pairs_lit.PairModule.load_from_checkpoint(unfinished / "checkpoints/last.ckpt").eval()
    assert torch.equal(module(random_pairs(3)), parts.trained.module(random_pairs(3)))


def test_a_checkpoint_outside_its_run_folder_asks_for_arguments(parts: pairs_lit.Run, tmp_path: Path) -> None:
    alone = shutil.copy(parts.folder / "checkpoints/last.ckpt", tmp_path / "alone.ckpt")
    with pytest.raises(PairsLitError, match=r"or use pairs_lit\.Run\.load\(folder\)\.network\(seed\)") as caught:
        pairs_lit.PairModule.load_from_checkpoint(alone)
    assert "\n" not in str(caught.value)

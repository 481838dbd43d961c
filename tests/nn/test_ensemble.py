"""Tests of ensemble members: they train separately, and their probabilities are averaged."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import pairs_lit
from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.data.loaders import StackBatch
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.ensemble import average_outputs
from pairs_lit.nn.heads import MLP, PowerHead, SoftmaxHead
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import compute_default_stack_size
from pairs_lit.seeds import derive_seed
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from pairs_lit.variants.fits import group_into_fits
from pairs_lit.variants.reading import read_variants
from tests.support import reference_impl
from tests.support.designs import DESIGN, RICH_CNN, TINY_FC, LoopedBackbone
from tests.support.reference_impl import OPERATORS, PlainNetwork
from tests.support.small_runs import SMALL, fit_small
from tests.support.user_parts import Branching

SEEDS, MEMBERS, PAIRS = [5, 2], 3, 6
MEMBER_SEEDS = {seed: [seed, derive_seed(seed, "member", 1), derive_seed(seed, "member", 2)] for seed in SEEDS}


def draw_images(rounds: int = len(SEEDS), pairs: int = PAIRS, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(rounds, pairs, 2, 14, 14, dtype=dtype)


@pytest.mark.parametrize(
    "design",
    [
        replace(DESIGN, readout="linear"),
        replace(DESIGN, backbone=RICH_CNN, sharing="separate", readout="identity"),
        replace(DESIGN, backbone=RICH_CNN, sharing="joint"),
        replace(DESIGN, backbone=TINY_FC, head=SoftmaxHead, readout="identity"),
        replace(DESIGN, backbone=LoopedBackbone, sharing="separate"),
        replace(DESIGN, backbone=Branching),
    ],
    ids=["shared", "separate", "joint", "digit head", "traced", "loop"],
)
@pytest.mark.parametrize("training", [True, False])
def test_each_member_equals_the_plain_network_of_its_seed(design: Architecture, training: bool) -> None:
    stack = reference_impl.build_stack(replace(design, members=MEMBERS), SEEDS, training=training)
    batch = draw_images()
    predictions = stack(batch)
    assert len(predictions.output) == len(SEEDS) * MEMBERS
    place = 0
    for round_, seed in enumerate(SEEDS):
        for member_seed in MEMBER_SEEDS[seed]:
            plain = PlainNetwork(design, member_seed).double().use_random_numbers_of(stack, place).train(training)
            expected = plain(batch[round_])
            output = predictions.output[place]
            torch.testing.assert_close(output, expected.output.view_as(output))
            if expected.digit_logits is not None:
                torch.testing.assert_close(predictions.digit_logits[place], expected.digit_logits)
            place += 1


def test_a_member_trains_like_a_separate_round() -> None:
    """A member's loss does not depend on the number of members: losses are neither summed nor averaged over them."""
    parts: dict[str, Any] = {
        "backbone": RICH_CNN,
        "head": MLP,
        "readout": "identity",
        "loss": PairLoss(digits="ce", aux_weight=0.7),
    }
    together = PairModule(seeds=SEEDS, members=MEMBERS, **parts).double()
    member_seeds = [member_seed for seed in SEEDS for member_seed in MEMBER_SEEDS[seed]]
    separate = PairModule(seeds=member_seeds, stack_size=len(member_seeds), **parts).double()
    optimizers = [torch.optim.Adam(module.parameters(), 0.01) for module in (together, separate)]
    for step in range(3):
        batch = draw_images()
        digits = torch.randint(10, (len(SEEDS), PAIRS, 2))
        target = (digits[..., 0] <= digits[..., 1]).long()
        repeated = [part.repeat_interleave(MEMBERS, 0) for part in (batch, digits, target)]
        batches = [StackBatch(0, "train", step, *tensors) for tensors in ((batch, digits, target), repeated)]
        losses = []
        for module, optimizer, stack_batch in zip((together, separate), optimizers, batches, strict=True):
            optimizer.zero_grad()
            _, loss = module.shared_step(stack_batch)
            loss.total.sum().backward()
            optimizer.step()
            losses.append(loss.total.detach())
        torch.testing.assert_close(losses[0], losses[1])
    for parameter, expected in zip(together.parameters(), separate.parameters(), strict=True):
        assert torch.equal(parameter.grad, expected.grad)  # type: ignore[arg-type] # both were trained
        assert torch.equal(parameter, expected)
    means, alone = together.collect(), separate.collect()
    for name, value in means.items():
        torch.testing.assert_close(value, alone[name].view(len(SEEDS), MEMBERS).mean(1))


def compute_by_hand(probabilities: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
    """Return P(first ≤ second), (R, B), from the digit probabilities (B, K) of both images, by round and member."""
    rounds = []
    for members in probabilities:
        first, second = (sum(member[side] for member in members) / len(members) for side in (0, 1))
        classes = range(first.shape[1])
        related = [(i, j) for i, j in product(classes, classes) if OPERATORS["le"](i, j)]
        rounds.append(torch.stack([sum(f[i] * s[j] for i, j in related) for f, s in zip(first, second, strict=True)]))
    return torch.stack(rounds)


def test_digit_probabilities_are_averaged_before_they_are_compared() -> None:
    z = torch.randn(2 * MEMBERS, PAIRS, 2, 10, dtype=torch.float64) * 3
    p = PowerHead(20).digit_probabilities(z)
    output = PairOutput(torch.zeros(2 * MEMBERS, PAIRS, dtype=torch.float64), "probability", z, p)
    mean = average_outputs([output], MEMBERS, "le")
    by_round = [[(p[r * MEMBERS + m, :, 0], p[r * MEMBERS + m, :, 1]) for m in range(MEMBERS)] for r in range(2)]
    torch.testing.assert_close(mean.output, compute_by_hand(by_round), atol=1e-9, rtol=0)
    assert (mean.kind, mean.is_averaged) == ("probability", True)
    digits = torch.stack([sum(z[r * MEMBERS + m].softmax(-1) for m in range(MEMBERS)) / MEMBERS for r in range(2)])
    torch.testing.assert_close(mean.digit_logits.exp(), digits, atol=1e-9, rtol=0)
    assert torch.equal(mean.digit_logits.argmax(-1), digits.argmax(-1))


@pytest.mark.parametrize("kind", ["logit", "logits"])
def test_logits_are_averaged_as_probabilities(kind: Literal["logit", "logits"]) -> None:
    z = torch.randn(4, PAIRS, *([2] if kind == "logits" else []), dtype=torch.float64)
    p = z.sigmoid() if kind == "logit" else z.exp()[..., 1] / z.exp().sum(-1)
    mean = average_outputs([PairOutput(z, kind, None)], 2, "le")
    torch.testing.assert_close(mean.get_probability(), torch.stack([(p[0] + p[1]) / 2, (p[2] + p[3]) / 2]))
    assert mean.digit_logits is None
    assert mean.digit_probabilities is None


@pytest.mark.parametrize("kind", ["logit", "logits"])
@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
def test_the_mean_is_nan_if_an_output_is_not_finite(kind: Literal["logit", "logits"], wrong: float) -> None:
    z = torch.zeros(4, PAIRS, *([2] if kind == "logits" else []))
    z[3, 0] = wrong
    mean = average_outputs([PairOutput(z, kind, None)], 2, "le").output
    assert mean.isnan().sum() == 1
    assert mean[1, 0].isnan()


def test_mean_digit_logits_do_not_underflow() -> None:
    """The logarithm is finite even if the mean probability is too small for a float."""
    z = torch.tensor([[0.0, 500.0], [0.0, 700.0]]).view(2, 1, 1, 2).expand(2, 1, 2, 2)
    mean = average_outputs([PairOutput(torch.zeros(2, 1), "logit", z)], 2, "le")
    assert mean.digit_logits[0, 0, 0, 0].item() == pytest.approx(-500 - torch.tensor(2.0).log().item())


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (PairLoss(target="bce", digits="mse"), lambda p, t: nn.BCELoss()(p, t)),
        (PairLoss(target="ce", digits="mse"), lambda p, t: nn.NLLLoss()(torch.stack([1 - p, p], 1).log(), t.long())),
        (PairLoss(target="mse", digits="mse"), lambda p, t: nn.MSELoss()(p, t)),
    ],
)
def test_losses_of_averaged_predictions_use_their_probabilities(
    loss: PairLoss, expected: Callable[[Tensor, Tensor], Tensor]
) -> None:
    outputs = 1 if loss.target == "bce" else 2
    shape = (2, PAIRS) if outputs == 1 else (2, PAIRS, 2)
    z, digits = torch.randn(shape).double(), torch.randint(10, (1, PAIRS, 2))
    digit_logits = torch.randn(2, PAIRS, 2, 10).double()
    target = (digits[..., 0] <= digits[..., 1]).long()
    output = PairOutput(z, "logit" if outputs == 1 else "logits", digit_logits)
    losses = loss(average_outputs([output], 2, "le"), digits, target)
    p = (z.sigmoid() if outputs == 1 else z.softmax(-1)[..., 1]).mean(0)
    torch.testing.assert_close(losses.target[0], expected(p, target[0].double()))
    one_hot = nn.functional.one_hot(digits[0], 10)
    errors = (digit_logits.softmax(-1).mean(0) - one_hot).square()
    torch.testing.assert_close(losses.digits[0], errors[:, 0].mean() + errors[:, 1].mean())


def build_module(**options: Any) -> PairModule:  # noqa: ANN401 - any option
    return PairModule(seeds=SEEDS, **{"backbone": TINY_FC, "head": MLP, "members": MEMBERS} | options)


def test_a_round_fails_if_one_of_its_members_fails() -> None:
    network = build_module()
    with torch.no_grad():
        for value in network.parameters():
            value[2 * MEMBERS - 1] = torch.nan
    digits = torch.randint(10, (2, PAIRS, 2))
    batch = StackBatch(
        0, "train", 0, draw_images(dtype=torch.float32), digits, (digits[..., 0] <= digits[..., 1]).long()
    )
    for mode in (True, False):
        network.train(mode).shared_step(batch)
        metrics = network.collect()
        for name in ("loss", "accuracy"):
            assert metrics[f"train/{name}"].isfinite().tolist() == [True, False]


def test_parameters_of_a_round_include_all_members() -> None:
    one, several = build_module(members=1), build_module()
    assert several.parameters_per_round == MEMBERS * one.parameters_per_round
    assert "2 rounds of 3 members in 1 stack of 2\n" in several.describe()
    assert "2 rounds in 1 stack of 2\n" in one.describe()


def test_calling_the_module_averages_members_in_both_modes() -> None:
    network, batch = build_module(), draw_images(dtype=torch.float32)
    for mode in (True, False):
        network.train(mode)
        by_member = network.pair_stacks[0](batch).get_probability().view(2, MEMBERS, PAIRS)
        torch.testing.assert_close(network(batch), by_member.mean(1))


def test_default_stack_size_decreases_with_members() -> None:
    design = replace(DESIGN, backbone=partial(FC))
    assert compute_default_stack_size(design, range(40)) == 20
    assert compute_default_stack_size(replace(design, members=4), range(40)) == 5
    assert compute_default_stack_size(replace(design, members=100), range(40)) == 1


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, r"model\.members must be 1 or more, got 0\."),
        (-2, r"model\.members must be 1 or more, got -2\."),
        (101, r"model\.members must be at most 100, got 101\."),
    ],
)
def test_invalid_numbers_of_members_are_rejected(count: int, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        build_module(members=count)


OPTIONS: dict[str, object] = {**SMALL, "data.batch_size": 20, "model.members": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return fit_small(OPTIONS, tmp_path_factory.mktemp("members"))


def test_rounds_do_not_depend_on_workers_or_stack_size(run: pairs_lit.Run, tmp_path: Path) -> None:
    spread = fit_small(OPTIONS, tmp_path, trainer__devices=2)
    for file in ("rounds.csv", "curves.csv"):
        assert (run.folder / file).read_bytes() == (spread.folder / file).read_bytes()
    together = fit_small(OPTIONS, tmp_path, rounds__stack_size=3)
    for name, values in run.curves.values.items():
        assert together.curves.values[name] == pytest.approx(values, abs=0.04 if "accuracy" in name else 1e-3)


def test_the_first_member_equals_the_round_without_members(run: pairs_lit.Run, tmp_path: Path) -> None:
    alone, images_ = fit_small(OPTIONS, tmp_path, model__members=1), torch.rand(9, 2, 14, 14) * 255
    network = run.network(4)
    assert isinstance(network, pairs_lit.RoundNetwork)
    for output, expected in zip(network.members[0](images_), alone.network(4).members[0](images_), strict=True):
        torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    probability = torch.stack([member(images_)[0].squeeze(-1).sigmoid() for member in network.members]).mean(0)
    torch.testing.assert_close(network(images_)[0], probability)
    assert (network.members[0](images_)[0] - network.members[1](images_)[0]).abs().max() > 0.01


def test_checkpoints_store_members_only_if_there_are_several(run: pairs_lit.Run, tmp_path: Path) -> None:
    metadata = read_checkpoint(run.folder / "checkpoints/last.ckpt")["pairs_lit"]
    assert metadata["members"] == 2
    assert metadata["network"][0] == "members: 2"
    alone = fit_small(OPTIONS, tmp_path, model__members=1)
    metadata = read_checkpoint(alone.folder / "checkpoints/last.ckpt")["pairs_lit"]
    assert "members" not in metadata
    assert not any("members" in line for line in metadata["network"])
    assert metadata["resize"] is None


@pytest.mark.parametrize("members", [1, 3])
def test_a_checkpoint_with_a_different_number_of_members_is_rejected(
    members: int, run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(run.folder / "config.yaml"), "--ckpt_path", str(run.folder / "checkpoints/last.ckpt")]
    assert main(["test", *options, "--model.members", str(members)]) == 2
    message = capsys.readouterr().err
    assert f"members is 2 in the checkpoint and {members} in the config." in message
    assert "Traceback" not in message


def test_evaluating_a_checkpoint_gives_the_results_of_the_fit(run: pairs_lit.Run) -> None:
    options = ["--config", str(run.folder / "config.yaml"), "--ckpt_path", str(run.folder / "checkpoints/last.ckpt")]
    assert main(["test", *options]) == 0
    rows = (run.folder / "test.csv").read_text(encoding="utf-8").splitlines()
    place = rows[0].split(",").index("test_accuracy")
    assert [float(row.split(",")[place]) for row in rows[1:]] == list(run.values("test_accuracy").values())


def test_a_resumed_fit_gives_the_curves_of_an_uninterrupted_fit(run: pairs_lit.Run, tmp_path: Path) -> None:
    half = fit_small(OPTIONS, tmp_path, trainer__max_epochs=1)
    whole = fit_small(OPTIONS, tmp_path, ckpt_path=half.folder / "checkpoints/last.ckpt")
    assert (whole.folder / "curves.csv").read_bytes() == (run.folder / "curves.csv").read_bytes()


def test_variants_with_different_members_are_trained_in_separate_fits() -> None:
    base = ["--config=fc_aux", "--data.source=digits", "--rounds.count=2", "--trainer.devices=1"]
    weight = "model.loss.aux_weight"
    plans = read_variants(
        base, [{"model.members": 2, weight: 0.1}, {"model.members": 1}, {"model.members": 2, weight: 2}]
    )
    assert group_into_fits(plans) == [[0, 2], [1]]

"""Members: a round may hold several networks; each learns by itself, and their probabilities are averaged."""

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
from pairs_lit.nn.ensemble import average
from pairs_lit.nn.heads import MLP, PowerHead, SoftmaxHead
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import default_stack_size
from pairs_lit.seeds import derive
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from pairs_lit.variants.fits import fits_of, read_variants
from tests.support import reference_impl
from tests.support.designs import DESIGN, RICH_CNN, TINY_FC, LoopedBackbone
from tests.support.reference_impl import OPERATORS, PlainNetwork
from tests.support.small_runs import SMALL, small_fit
from tests.support.user_parts import Branching

SEEDS, MEMBERS, PAIRS = [5, 2], 3, 6
OWN = {seed: [seed, derive(seed, "member", 1), derive(seed, "member", 2)] for seed in SEEDS}


def images(rounds: int = len(SEEDS), pairs: int = PAIRS, dtype: torch.dtype = torch.float64) -> Tensor:
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
def test_each_member_is_the_plain_network_of_its_own_seed(design: Architecture, training: bool) -> None:
    stack = reference_impl.build_stack(replace(design, members=MEMBERS), SEEDS, training=training)
    batch = images()
    said = stack(batch)
    assert len(said.output) == len(SEEDS) * MEMBERS
    place = 0
    for round_, seed in enumerate(SEEDS):
        for own in OWN[seed]:
            plain = PlainNetwork(design, own).double().beside(stack, place).train(training)
            expected = plain(batch[round_])
            torch.testing.assert_close(said.output[place], expected.output.view_as(said.output[place]))
            if expected.digit_logits is not None:
                torch.testing.assert_close(said.digit_logits[place], expected.digit_logits)
            place += 1


def test_a_member_learns_as_a_round_of_its_own() -> None:
    """Not the sum nor the mean of the members' losses is what one learns from, so their number does not matter."""
    parts: dict[str, Any] = {
        "backbone": RICH_CNN,
        "head": MLP,
        "readout": "identity",
        "loss": PairLoss(digits="ce", aux_weight=0.7),
    }
    together = PairModule(seeds=SEEDS, members=MEMBERS, **parts).double()
    every = [own for seed in SEEDS for own in OWN[seed]]
    apart = PairModule(seeds=every, stack_size=len(every), **parts).double()
    optimizers = [torch.optim.Adam(module.parameters(), 0.01) for module in (together, apart)]
    for step in range(3):
        batch = images()
        digits = torch.randint(10, (len(SEEDS), PAIRS, 2))
        target = (digits[..., 0] <= digits[..., 1]).long()
        wide = [part.repeat_interleave(MEMBERS, 0) for part in (batch, digits, target)]
        shown = [StackBatch(0, "train", step, *each) for each in ((batch, digits, target), wide)]
        losses = []
        for module, optimizer, each in zip((together, apart), optimizers, shown, strict=True):
            optimizer.zero_grad()
            _, found = module.shared_step(each)
            found.total.sum().backward()
            optimizer.step()
            losses.append(found.total.detach())
        torch.testing.assert_close(losses[0], losses[1])
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type] # both were trained
        assert torch.equal(one, other)
    means, alone = together.collect(), apart.collect()
    for name, value in means.items():
        torch.testing.assert_close(value, alone[name].view(len(SEEDS), MEMBERS).mean(1))


def by_hand(answers: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
    """Return P(first ≤ second), (R, B), of digit probabilities (B, K) of both images, by round and member."""
    rounds = []
    for members in answers:
        first, second = (sum(each[side] for each in members) / len(members) for side in (0, 1))
        classes = range(first.shape[1])
        related = [(i, j) for i, j in product(classes, classes) if OPERATORS["le"](i, j)]
        rounds.append(torch.stack([sum(f[i] * s[j] for i, j in related) for f, s in zip(first, second, strict=True)]))
    return torch.stack(rounds)


def test_digit_probabilities_are_averaged_before_they_are_compared() -> None:
    z = torch.randn(2 * MEMBERS, PAIRS, 2, 10, dtype=torch.float64) * 3
    p = PowerHead(20).digit_probabilities(z)
    said = PairOutput(torch.zeros(2 * MEMBERS, PAIRS, dtype=torch.float64), "probability", z, p)
    mean = average([said], MEMBERS, "le")
    own = [[(p[r * MEMBERS + m, :, 0], p[r * MEMBERS + m, :, 1]) for m in range(MEMBERS)] for r in range(2)]
    torch.testing.assert_close(mean.output, by_hand(own), atol=1e-9, rtol=0)
    assert (mean.kind, mean.averaged) == ("probability", True)
    read = torch.stack([sum(z[r * MEMBERS + m].softmax(-1) for m in range(MEMBERS)) / MEMBERS for r in range(2)])
    torch.testing.assert_close(mean.digit_logits.exp(), read, atol=1e-9, rtol=0)
    assert torch.equal(mean.digit_logits.argmax(-1), read.argmax(-1))


@pytest.mark.parametrize("kind", ["logit", "logits"])
def test_other_answers_are_averaged_as_probabilities(kind: Literal["logit", "logits"]) -> None:
    z = torch.randn(4, PAIRS, *([2] if kind == "logits" else []), dtype=torch.float64)
    p = z.sigmoid() if kind == "logit" else z.exp()[..., 1] / z.exp().sum(-1)
    mean = average([PairOutput(z, kind, None)], 2, "le")
    torch.testing.assert_close(mean.probability(), torch.stack([(p[0] + p[1]) / 2, (p[2] + p[3]) / 2]))
    assert mean.digit_logits is None
    assert mean.digit_probabilities is None


@pytest.mark.parametrize("kind", ["logit", "logits"])
@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
def test_an_answer_that_is_not_finite_is_not_hidden_by_the_mean(kind: Literal["logit", "logits"], wrong: float) -> None:
    z = torch.zeros(4, PAIRS, *([2] if kind == "logits" else []))
    z[3, 0] = wrong
    mean = average([PairOutput(z, kind, None)], 2, "le").output
    assert mean.isnan().sum() == 1
    assert mean[1, 0].isnan()


def test_far_off_digit_logits_keep_their_size() -> None:
    """A mean probability below what a float holds still has a logarithm."""
    z = torch.tensor([[0.0, 500.0], [0.0, 700.0]]).view(2, 1, 1, 2).expand(2, 1, 2, 2)
    mean = average([PairOutput(torch.zeros(2, 1), "logit", z)], 2, "le")
    assert mean.digit_logits[0, 0, 0, 0].item() == pytest.approx(-500 - torch.tensor(2.0).log().item())


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (PairLoss(target="bce", digits="mse"), lambda p, t: nn.BCELoss()(p, t)),
        (PairLoss(target="ce", digits="mse"), lambda p, t: nn.NLLLoss()(torch.stack([1 - p, p], 1).log(), t.long())),
        (PairLoss(target="mse", digits="mse"), lambda p, t: nn.MSELoss()(p, t)),
    ],
)
def test_the_losses_of_an_averaged_answer_are_those_of_its_probabilities(
    loss: PairLoss, expected: Callable[[Tensor, Tensor], Tensor]
) -> None:
    outputs = 1 if loss.target == "bce" else 2
    shape = (2, PAIRS) if outputs == 1 else (2, PAIRS, 2)
    z, digits = torch.randn(shape).double(), torch.randint(10, (1, PAIRS, 2))
    read = torch.randn(2, PAIRS, 2, 10).double()
    target = (digits[..., 0] <= digits[..., 1]).long()
    found = loss(average([PairOutput(z, "logit" if outputs == 1 else "logits", read)], 2, "le"), digits, target)
    p = (z.sigmoid() if outputs == 1 else z.softmax(-1)[..., 1]).mean(0)
    torch.testing.assert_close(found.target[0], expected(p, target[0].double()))
    hot = nn.functional.one_hot(digits[0], 10)
    errors = (read.softmax(-1).mean(0) - hot).square()
    torch.testing.assert_close(found.digits[0], errors[:, 0].mean() + errors[:, 1].mean())


def module(**options: Any) -> PairModule:  # noqa: ANN401 - any option
    return PairModule(seeds=SEEDS, **{"backbone": TINY_FC, "head": MLP, "members": MEMBERS} | options)


def test_a_member_that_fails_fails_its_round() -> None:
    network = module()
    with torch.no_grad():
        for value in network.parameters():
            value[2 * MEMBERS - 1] = torch.nan
    digits = torch.randint(10, (2, PAIRS, 2))
    batch = StackBatch(0, "train", 0, images(dtype=torch.float32), digits, (digits[..., 0] <= digits[..., 1]).long())
    for mode in (True, False):
        network.train(mode).shared_step(batch)
        found = network.collect()
        for name in ("loss", "accuracy"):
            assert found[f"train/{name}"].isfinite().tolist() == [True, False]


def test_a_round_counts_the_parameters_of_its_members() -> None:
    one, several = module(members=1), module()
    assert several.parameters_per_round == MEMBERS * one.parameters_per_round
    assert "2 rounds of 3 members in 1 stack of 2\n" in several.described()
    assert "2 rounds in 1 stack of 2\n" in one.described()


def test_a_called_module_averages_in_either_mode() -> None:
    network, shown = module(), images(dtype=torch.float32)
    for mode in (True, False):
        network.train(mode)
        own = torch.cat([network.pair_stacks[0](shown).probability()]).view(2, MEMBERS, PAIRS)
        torch.testing.assert_close(network(shown), own.mean(1))


def test_members_count_in_the_size_of_a_stack() -> None:
    design = replace(DESIGN, backbone=partial(FC))
    assert default_stack_size(design, range(40)) == 20
    assert default_stack_size(replace(design, members=4), range(40)) == 5
    assert default_stack_size(replace(design, members=100), range(40)) == 1


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, r"model\.members is 0: it must be 1 or more\."),
        (-2, r"model\.members is -2: it must be 1 or more\."),
        (101, r"model\.members must be at most 100, got 101\."),
    ],
)
def test_numbers_of_members_that_make_no_sense_are_refused(count: int, message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        module(members=count)


OPTIONS: dict[str, object] = {**SMALL, "data.batch_size": 20, "model.members": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    return small_fit(OPTIONS, tmp_path_factory.mktemp("members"))


def test_neither_workers_nor_stacks_change_a_round(run: pairs_lit.Run, tmp_path: Path) -> None:
    spread = small_fit(OPTIONS, tmp_path, trainer__devices=2)
    for file in ("rounds.csv", "curves.csv"):
        assert (run.folder / file).read_bytes() == (spread.folder / file).read_bytes()
    together = small_fit(OPTIONS, tmp_path, rounds__stack_size=3)
    for name, values in run.curves.values.items():
        assert together.curves.values[name] == pytest.approx(values, abs=0.04 if "accuracy" in name else 1e-3)


def test_the_first_member_is_the_round_without_members(run: pairs_lit.Run, tmp_path: Path) -> None:
    alone, images_ = small_fit(OPTIONS, tmp_path, model__members=1), torch.rand(9, 2, 14, 14) * 255
    own = run.network(4)
    assert isinstance(own, pairs_lit.RoundNetwork)
    for one, other in zip(own.members[0](images_), alone.network(4).members[0](images_), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    probability = torch.stack([member(images_)[0].squeeze(-1).sigmoid() for member in own.members]).mean(0)
    torch.testing.assert_close(own(images_)[0], probability)
    assert (own.members[0](images_)[0] - own.members[1](images_)[0]).abs().max() > 0.01


def test_only_several_members_are_recorded(run: pairs_lit.Run, tmp_path: Path) -> None:
    said = read_checkpoint(run.folder / "checkpoints/last.ckpt")["pairs_lit"]
    assert said["members"] == 2
    assert said["network"][0] == "members: 2"
    alone = small_fit(OPTIONS, tmp_path, model__members=1)
    said = read_checkpoint(alone.folder / "checkpoints/last.ckpt")["pairs_lit"]
    assert "members" not in said
    assert not any("members" in line for line in said["network"])
    assert said["resize"] is None


@pytest.mark.parametrize("members", [1, 3])
def test_a_checkpoint_of_other_members_is_refused(
    members: int, run: pairs_lit.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(run.folder / "config.yaml"), "--ckpt_path", str(run.folder / "checkpoints/last.ckpt")]
    assert main(["test", *options, "--model.members", str(members)]) == 2
    said = capsys.readouterr().err
    assert f"members is 2 in the checkpoint and {members} in the config." in said
    assert "Traceback" not in said


def test_a_checkpoint_is_evaluated_as_the_fit_did(run: pairs_lit.Run) -> None:
    options = ["--config", str(run.folder / "config.yaml"), "--ckpt_path", str(run.folder / "checkpoints/last.ckpt")]
    assert main(["test", *options]) == 0
    rows = (run.folder / "test.csv").read_text(encoding="utf-8").splitlines()
    place = rows[0].split(",").index("test_accuracy")
    assert [float(row.split(",")[place]) for row in rows[1:]] == list(run.values("test_accuracy").values())


def test_a_fit_goes_on_as_if_it_had_not_stopped(run: pairs_lit.Run, tmp_path: Path) -> None:
    half = small_fit(OPTIONS, tmp_path, trainer__max_epochs=1)
    whole = small_fit(OPTIONS, tmp_path, ckpt_path=half.folder / "checkpoints/last.ckpt")
    assert (whole.folder / "curves.csv").read_bytes() == (run.folder / "curves.csv").read_bytes()


def test_trials_of_other_members_are_fits_of_their_own() -> None:
    base = ["--config=fc_aux", "--data.source=digits", "--rounds.count=2", "--trainer.devices=1"]
    weight = "model.loss.aux_weight"
    plans = read_variants(
        base, [{"model.members": 2, weight: 0.1}, {"model.members": 1}, {"model.members": 2, weight: 2}]
    )
    assert fits_of(plans) == [[0, 2], [1]]

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.loaders import StackBatch
from pairs_lit.nn.architecture import Architecture
from pairs_lit.nn.backbones import CNN, FC
from pairs_lit.nn.heads import MLP, PowerHead, SoftmaxHead
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.ops.dropout import (
    RandomStreams,
    StackedDropout,
    StepPosition,
    compute_drop_limit,
    compute_keep_mask,
)
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from tests.support import reference_impl
from tests.support.reference_impl import PlainNetwork
from tests.support.round_fits import (
    ADAM,
    CPU,
    DEEP_MLP,
    DESIGN,
    LOSS,
    RICH_CNN,
    SGD,
    TEST,
    TRAIN,
    VAL,
    build_data_module,
    build_pair_module,
    fit_rounds,
    get_final_values,
    is_bit_equal,
    iterate_batches,
    parametrize_neighbours,
    train_alone,
)

RICH_FC = partial(FC, widths=(5, 10), batch_norm=True, dropout=0.4)


class LoopedBackbone(nn.Module):
    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape[0], 3, 5, stride=3)
        self.last = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(x)
        if self.training:
            # a stack cannot reproduce these random numbers
            maps = maps * (torch.rand_like(maps[:, :, :1, :1]) > 0.3) / 0.7
        return self.last(maps.relu().flatten(1))


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["SGD", "Adam"])
@pytest.mark.parametrize(("backbone", "sharing"), [(RICH_CNN, "shared"), (LoopedBackbone, "separate")])
@pytest.mark.quick(2)
def test_fit_equals_separate_training_loops(
    tiny_root: Path, tmp_path: Path, optimizer: Callable[..., Any], backbone: Callable[..., nn.Module], sharing: str
) -> None:
    module, recorder, _ = fit_rounds(
        tiny_root, tmp_path, count=3, seed=5, stack_size=2, optimizer=optimizer, backbone=backbone, sharing=sharing
    )
    design = Architecture(backbone, DEEP_MLP, sharing, "identity", "relu", "le", 14)
    for place, seed in enumerate([5, 6, 7]):
        stack, r = divmod(place, 2)
        data = reference_impl.draw_round_data(tiny_root, seed, TRAIN, VAL, TEST)
        fed = [(epoch, batch) for epoch, batch in recorder.batches if batch.stack == stack]
        expected = [(epoch, *batch) for epoch in range(2) for batch in iterate_batches(data, seed, epoch)]
        assert [len(target) for *_, target in expected] == [8, 8, 5] * 2
        for (epoch, batch), (own_epoch, step, images, digits, target) in zip(fed, expected, strict=True):
            assert (epoch, batch.step) == (own_epoch, step)
            assert torch.equal(batch.images[r], images)
            assert torch.equal(batch.digits[r], digits)
            assert torch.equal(batch.target[r], target)
        plain = PlainNetwork(design, seed).double().use_random_numbers_of(module.pair_stacks[stack], r)
        train_alone(plain, module.pair_stacks[stack], data, optimizer)
        for value, expected_value in zip(
            get_final_values(module, seed, design), plain.state_dict().values(), strict=True
        ):
            reference_impl.check_close(value, expected_value)


def test_final_metrics_equal_those_of_separate_networks(tiny_root: Path, tmp_path: Path) -> None:
    module, _, runner = fit_rounds(tiny_root, tmp_path, count=3, seed=5, stack_size=2)
    for place, seed in enumerate(runner.seeds):
        stack, r = divmod(place, 2)
        data = reference_impl.draw_round_data(tiny_root, seed, TRAIN, VAL, TEST)
        plain = PlainNetwork(DESIGN, seed).double().use_random_numbers_of(module.pair_stacks[stack], r)
        train_alone(plain, module.pair_stacks[stack], data, SGD)
        plain.eval()
        for split in ("val", "test"):
            prediction = plain(data.images[split].double())
            correct = (prediction.output[:, 0] > 0) == data.target[split]
            digits_correct = prediction.digit_logits.argmax(-1) == data.digits[split]
            losses = reference_impl.compute_round_loss(LOSS, prediction, data.digits[split], data.target[split])
            values = [*losses, correct.double().mean(), digits_correct.double().mean()]
            for name, expected_value in zip(
                ("loss", "target_loss", "digit_loss", "accuracy", "digit_accuracy"), values, strict=True
            ):
                actual = runner.curves.values[f"{split}/{name}"][-1][place]
                assert actual == pytest.approx(expected_value.item(), rel=1e-9, abs=1e-9)


@parametrize_neighbours
@pytest.mark.parametrize("normalise", ["raw", "unit", "standard"])
@pytest.mark.parametrize("swap", ["none", "relabel"])
def test_pairs_and_shuffling_do_not_depend_on_other_rounds_or_stacks(
    tiny_root: Path, seeds: list[int], stack_size: int, normalise: str, swap: str
) -> None:
    def fed(module: PairDataModule, place: int, size: int) -> list[Tensor]:
        loaders = (module.train_dataloader(), module.loader("train", "val", "test"))
        batches = [batch for loader in loaders for batch in loader if batch.stack == place // size]
        r = place % size
        return [value[r] for batch in batches for value in (batch.images, batch.digits, batch.target)]

    alone = build_data_module(tiny_root, [5], 1, normalise=normalise, swap=swap)
    together = build_data_module(tiny_root, seeds, stack_size, normalise=normalise, swap=swap)
    assert is_bit_equal(fed(together, seeds.index(5), stack_size), fed(alone, 0, 1))


@parametrize_neighbours
def test_sampled_pairs_equal_the_documented_ones(tiny_root: Path, seeds: list[int], stack_size: int) -> None:
    torch.manual_seed(len(seeds))
    bank, data = (
        build_data_module(tiny_root, seeds, stack_size).bank,
        reference_impl.draw_round_data(tiny_root, 5, TRAIN, VAL, TEST),
    )
    place = seeds.index(5)
    for split in ("train", "val", "test"):
        pairs = bank.get_pairs(split, slice(place, place + 1))
        images, digits, target = bank.gather_images(pairs.index, slice(place, place + 1)), pairs.digits, pairs.target
        assert torch.equal(images[0], data.images[split])
        assert torch.equal(digits[0], data.digits[split])
        assert torch.equal(target[0], data.target[split])


@parametrize_neighbours
@pytest.mark.parametrize("backbone", [RICH_CNN, RICH_FC, LoopedBackbone])
@pytest.mark.parametrize("sharing", ["shared", "separate"])
@pytest.mark.quick(12)
def test_initial_weights_do_not_depend_on_other_rounds_or_stacks(
    seeds: list[int], stack_size: int, backbone: Callable[..., nn.Module], sharing: str
) -> None:
    design = Architecture(backbone, DEEP_MLP, sharing, "identity", "relu", "le", 14)
    torch.manual_seed(sum(seeds))
    module = build_pair_module(seeds, stack_size, backbone=backbone, sharing=sharing)
    assert is_bit_equal(get_final_values(module, 5, design), list(PlainNetwork(design, 5).state_dict().values()))


def get_masks(stack: PairStack, r: int) -> list[Tensor]:
    layers = [layer for layer in stack.network.modules() if isinstance(layer, StackedDropout)]
    return [layer.compute_mask((6, 20), CPU)[r] for layer in layers]


@parametrize_neighbours
@pytest.mark.parametrize("sharing", ["shared", "separate"])
@pytest.mark.quick(4)
def test_dropout_masks_do_not_depend_on_other_rounds_or_stacks(seeds: list[int], stack_size: int, sharing: str) -> None:
    branches = 2 if sharing == "separate" else 1
    alone, module = (
        build_pair_module([5], 1, sharing=sharing).pair_stacks[0],
        build_pair_module(seeds, stack_size, sharing=sharing),
    )
    number, r = divmod(seeds.index(5), stack_size)
    stack_of_round = module.pair_stacks[number]
    for epoch, step in ((0, 0), (0, 1), (1, 0), (3, 7)):
        for stack in (alone, stack_of_round):
            stack.clock.epoch, stack.clock.step = epoch, step
        actual, expected = get_masks(stack_of_round, r), get_masks(alone, 0)
        assert len(expected) == 2 * branches + 1
        assert is_bit_equal(actual, expected)
        assert not any(torch.equal(one, other) for one, other in combinations(actual, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backbone", [RICH_CNN, RICH_FC, LoopedBackbone])
def test_training_is_bit_identical_next_to_other_rounds_in_a_stack_of_equal_size(
    dtype: torch.dtype, backbone: Callable[..., nn.Module]
) -> None:
    finals = []
    for seeds in ([5, 6, 7], [5, 90, 3]):
        module = build_pair_module(seeds, 3, backbone=backbone).to(dtype)
        run(module, [disturbed(batch(step, dtype), seeds[1]) for step in range(3)])
        finals.append(
            get_final_values(module, 5, Architecture(backbone, DEEP_MLP, "shared", "identity", "relu", "le", 14))
        )
    assert is_bit_equal(*finals)


def batch(step: int, dtype: torch.dtype = torch.float64, rounds: int = 3) -> StackBatch:
    return StackBatch(0, "train", step, *reference_impl.draw_batch(rounds, 6 - step, dtype=dtype, seed=step))


def disturbed(batch: StackBatch, seed: int) -> StackBatch:
    """Change the images of all rounds except the first."""
    images = batch.images.clone()
    images[1:] += seed
    return batch._replace(images=images)


def run(module: PairModule, batches: list[StackBatch]) -> tuple[list[Tensor], list[Tensor]]:
    """Train on the batches; return the losses of all steps and the gradients of the last step."""
    optimizer, losses = module.configure_optimizers(), []
    for index, each in enumerate(batches):
        optimizer.zero_grad()
        module.pair_stacks[0].clock.step = each.step
        _, parts = module.shared_step(each)
        losses.append(parts.total.detach())
        module.training_step(each, index).backward()
        optimizer.step()
    return losses, [value.grad for value in module.parameters() if value.grad is not None]


def disturb_with_other_work() -> None:
    torch.manual_seed(999)
    run(build_pair_module([70, 71, 72], 3).double(), [batch(0), batch(1)])
    torch.rand(17)


@pytest.mark.parametrize("seeds", [[5], [5, 6, 7], [40, 41, 5]], ids=str)
@pytest.mark.parametrize("disturb", [lambda: None, disturb_with_other_work], ids=["first", "after other work"])
def test_initial_loss_equals_that_of_the_single_round_network(seeds: list[int], disturb: Callable[[], None]) -> None:
    disturb()
    module = build_pair_module(seeds, len(seeds)).double()
    first = batch(0, rounds=len(seeds))
    _, parts = module.shared_step(first)
    r = seeds.index(5)
    plain = PlainNetwork(DESIGN, 5).double().use_random_numbers_of(module.pair_stacks[0], r)
    expected = reference_impl.compute_round_loss(LOSS, plain(first.images[r]), first.digits[r], first.target[r])
    for part, expected_value in zip(parts, expected, strict=True):
        reference_impl.check_close(part[r], expected_value)


def test_fit_does_not_depend_on_earlier_fits_in_the_process(tiny_root: Path, tmp_path: Path) -> None:
    first, recorder, _ = fit_rounds(tiny_root, tmp_path / "a", count=2, seed=5, stack_size=2, epochs=1)
    fit_rounds(tiny_root, tmp_path / "b", count=3, seed=40, stack_size=1, epochs=1)
    torch.manual_seed(4321)
    again, recorder_again, _ = fit_rounds(tiny_root, tmp_path / "c", count=2, seed=5, stack_size=2, epochs=1)
    for seed in (5, 6):
        assert is_bit_equal(get_final_values(again, seed), get_final_values(first, seed))
    for (_, one), (_, other) in zip(recorder.batches, recorder_again.batches, strict=True):
        assert torch.equal(one.images, other.images)


def test_stack_size_changes_trained_weights_by_rounding_only(tiny_root: Path, tmp_path: Path) -> None:
    runs = [fit_rounds(tiny_root, tmp_path / str(size), count=3, seed=5, stack_size=size)[0] for size in (1, 2, 3)]
    for seed in (5, 6, 7):
        for value, *others in zip(*(get_final_values(module, seed) for module in runs), strict=True):
            for other in others:
                reference_impl.check_close(value, other)


@pytest.mark.parametrize("backbone", [RICH_CNN, LoopedBackbone])
def test_building_and_training_do_not_change_the_global_generator(backbone: Callable[..., nn.Module]) -> None:
    before = torch.get_rng_state()
    run(build_pair_module([5, 6, 7], 3, backbone=backbone).double(), [batch(0), batch(1)])
    assert torch.equal(torch.get_rng_state(), before)


def test_whole_fit_does_not_change_the_global_generator(tiny_root: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    fit_rounds(tiny_root, tmp_path, count=2, seed=5, stack_size=1, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


NETWORKS: dict[str, dict[str, Any]] = {
    "CNN": {"backbone": partial(CNN, channels=(3, 2), widths=(6, 10))},
    "CNN, batch norm": {},
    "CNN, separate": {"sharing": "separate"},
    "CNN, joint": {"sharing": "joint", "readout": "none", "loss": PairLoss()},
    "wide CNN": {"backbone": partial(CNN, channels=(16, 8), widths=(10,)), "readout": "linear"},
    "FC, batch norm": {"backbone": RICH_FC, "head": partial(DEEP_MLP, outputs=2), "loss": PairLoss("ce", "mse")},
    "two logits, mse": {"head": partial(MLP, outputs=2), "loss": PairLoss("mse", "ce")},
    "loop": {"backbone": LoopedBackbone},
    "softmax, ce": {"head": SoftmaxHead, "loss": PairLoss("ce", "ce")},
    "softmax, bce": {"head": SoftmaxHead, "loss": PairLoss("bce")},
    "power, ce": {"head": PowerHead, "loss": PairLoss("ce", "mse")},
    "power, bce": {"head": PowerHead, "loss": PairLoss("bce")},
    "power, mse": {"head": PowerHead, "loss": PairLoss("mse")},
}


def poisoned(module: PairModule, value: float) -> PairModule:
    """Fill the weights of the middle one of three rounds with NaN or infinity."""
    with torch.no_grad():
        for weight in module.parameters():
            copies = len(weight) // 3
            weight[copies : 2 * copies] = value
    return module


def poisoned_loop(module: PairModule, value: float) -> PairModule:
    assert isinstance(module.stacks[0].branch, LoopedCopies)
    with torch.no_grad():
        for weight in module.stacks[0].branch.copies[1].parameters():
            weight.fill_(value)
    return module


def others(values: list[Tensor]) -> list[Tensor]:
    """Return the values of the first and the last of three rounds."""
    return [torch.cat([value[: len(value) // 3], value[2 * (len(value) // 3) :]]) for value in values]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(float("nan"), torch.float32), (float("nan"), torch.float64), (float("inf"), torch.float32)],
    ids=str,
)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "loop"])
@pytest.mark.quick(4)
def test_broken_round_does_not_change_other_rounds(name: str, value: float, dtype: torch.dtype) -> None:
    whole, broken = (build_pair_module([5, 6, 7], 3, **NETWORKS[name]).to(dtype) for _ in range(2))
    batches = [batch(step, dtype) for step in range(2)]
    (losses, gradients), (broken_losses, broken_gradients) = run(whole, batches), run(poisoned(broken, value), batches)
    assert all(not loss[1].isfinite() for loss in broken_losses)
    assert all(loss[0].isfinite() and loss[2].isfinite() for loss in losses)
    assert is_bit_equal(others(broken_losses), others(losses))
    assert is_bit_equal(others(broken_gradients), others(gradients))
    weights = [others([*module.stacks[0].state_dict().values()]) for module in (broken, whole)]
    assert is_bit_equal(*weights)
    metrics = [module.collect() for module in (broken, whole)]
    assert metrics[0].keys() == metrics[1].keys()
    assert is_bit_equal(*([value[[0, 2]] for value in each.values()] for each in metrics))
    assert metrics[0]["train/accuracy"][1].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_broken_round_in_a_loop_does_not_change_other_rounds(dtype: torch.dtype) -> None:
    whole, broken = (build_pair_module([5, 6, 7], 3, **NETWORKS["loop"]).to(dtype) for _ in range(2))
    batches = [batch(step, dtype) for step in range(2)]
    (losses, _), (broken_losses, _) = run(whole, batches), run(poisoned_loop(broken, float("nan")), batches)
    assert all(loss[1].isnan() for loss in broken_losses)
    assert is_bit_equal(others(broken_losses), others(losses))
    design = Architecture(LoopedBackbone, DEEP_MLP, "shared", "identity", "relu", "le", 14)
    for seed in (5, 7):
        assert is_bit_equal(get_final_values(broken, seed, design), get_final_values(whole, seed, design))


def stacked_dropout(p: float, seeds: list[int], *, name: str = "layer") -> StackedDropout:
    return StackedDropout(
        [p] * len(seeds), RandomStreams(tuple(seeds), (0,) * len(seeds), StepPosition(), name), maps=False
    )


def at(layer: StackedDropout, epoch: int, step: int, count: int = 20_000) -> Tensor:
    layer._streams.clock.epoch, layer._streams.clock.step = epoch, step
    return layer.compute_mask((count,), CPU)


def correlation(one: Tensor, other: Tensor) -> float:
    return torch.corrcoef(torch.stack([one.flatten().double(), other.flatten().double()]))[0, 1].item()


@pytest.mark.parametrize("p", [0.05, 0.2, 0.5, 0.9])
def test_kept_fraction_is_within_five_standard_deviations(p: float) -> None:
    keep = at(stacked_dropout(p, list(range(50))), 2, 3)
    deviation = (p * (1 - p) / keep.shape[1]) ** 0.5
    assert ((keep.double().mean(1) - (1 - p)).abs() < 5 * deviation).all()


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_masks_of_rounds_steps_epochs_layers_and_places_are_not_correlated(p: float) -> None:
    layer, other = stacked_dropout(p, [0, 1, 2]), stacked_dropout(p, [0, 1, 2], name="other")
    base = at(layer, 0, 0)
    pairs = {
        "rounds": (base[0], base[1]),
        "steps": (base, at(layer, 0, 1)),
        "far steps": (base, at(layer, 0, 1000)),
        "epochs": (base, at(layer, 1, 0)),
        "layers": (base, at(other, 0, 0)),
        "step for epoch": (at(layer, 0, 1), at(layer, 1, 0)),
        **{f"lag {lag}": (base[:, lag:], base[:, :-lag]) for lag in (1, 2, 3, 16, 64, 1024)},
    }
    correlations = {name: correlation(*both) for name, both in pairs.items()}
    assert all(abs(value) < 5 / 20_000**0.5 for value in correlations.values()), correlations


def test_correlations_of_many_rounds_and_steps_are_distributed_as_by_chance() -> None:
    layer = stacked_dropout(0.5, list(range(20)))
    masks = torch.cat([at(layer, 0, step, 4096) for step in range(20)]).double()
    matrix = torch.corrcoef(masks)[~torch.eye(400, dtype=torch.bool)]
    assert matrix.abs().max() < 6 / 4096**0.5
    assert abs(matrix.std().item() * 4096**0.5 - 1) < 0.02


words = st.integers(-(2**31), 2**31 - 1)


@settings(max_examples=50, deadline=None)
@given(
    keys=st.lists(st.tuples(words, words), min_size=1, max_size=4),
    step=st.integers(0, 2**40),
    count=st.integers(1, 300),
    p=st.floats(0, 0.999),
)
def test_the_hash_is_a_pure_function_and_each_round_and_prefix_stands_alone(
    keys: list[tuple[int, int]], step: int, count: int, p: float
) -> None:
    every, limit = torch.tensor(keys, dtype=torch.int32), compute_drop_limit(p)
    keep = compute_keep_mask(every, step, count, limit)
    assert keep.shape == (len(keys), count)
    assert torch.equal(compute_keep_mask(every, step, count, limit), keep)
    assert torch.equal(compute_keep_mask(every[-1:], step, count, limit)[0], keep[-1])
    assert torch.equal(compute_keep_mask(every, step, count + 5, limit)[:, :count], keep)


def test_a_higher_p_drops_what_a_lower_p_drops_and_more() -> None:
    lower, higher = (at(stacked_dropout(p, [4]), 1, 1) for p in (0.3, 0.6))
    assert not (higher & ~lower).any()


@pytest.mark.parametrize("training", [True, False])
def test_a_p_of_zero_changes_nothing(training: bool) -> None:
    x = torch.randn(2, 5, 3)
    layer = stacked_dropout(0.0, [0, 1]).train(training)
    assert torch.equal(layer(x), x)
    assert layer.compute_mask((5, 3), CPU).all()


@pytest.mark.parametrize("maps", [True, False])
def test_a_p_of_one_drops_everything_and_gives_no_nan(maps: bool) -> None:
    layer = StackedDropout([1.0, 1.0], RandomStreams((0, 1), (0, 0), StepPosition(), "layer"), maps=maps)
    x = torch.randn((2, 4, 3, 3, 6) if maps else (2, 5, 3), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(x))
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.equal(layer.eval()(x), x)


def test_kept_activations_are_scaled_to_keep_their_mean() -> None:
    x = torch.ones(2, 50, 4, dtype=torch.float64)
    layer = stacked_dropout(0.25, [0, 1])
    reference_impl.check_close(layer(x), layer.compute_mask((50, 4), CPU).double() / 0.75)


def test_masks_do_not_depend_on_earlier_epochs() -> None:
    fresh, used = stacked_dropout(0.5, [3, 4]), stacked_dropout(0.5, [3, 4])
    at(used, 0, 5)
    at(used, 9, 0)
    assert torch.equal(at(used, 2, 1), at(fresh, 2, 1))

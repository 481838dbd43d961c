"""Tests of typical networks: a stack trains like plain copies, compared in float64."""

import pytest
import torch

from pairs_lit.stacking.stack import stack
from pairs_lit.stacking.stacked_network import StackedNetwork
from tests.support import reference_impl
from tests.support.networks import NETWORKS, Case
from tests.support.stack_checks import UseStackMasks, compute_loss, compute_round_loss, run_step, to_list

SEEDS = [3, 11]


@pytest.mark.parametrize("method", ["run_side_by_side", "run_sequentially"])
@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.quick(14)
def test_a_stacked_network_trains_like_plain_copies(case: Case, method: str) -> None:
    """Compare outputs, gradients, three training steps, statistics, evaluation, and saving and loading the state."""
    network = stack(case.factory, SEEDS, case.shape).double()
    assert isinstance(network, StackedNetwork), network.reason
    network.forward = getattr(network, method)
    plain = [reference_impl.build_plain(case.factory, seed).double() for seed in SEEDS]
    names = list(plain[0].state_dict())
    assert list(network.state_dict()) == names
    optimizers = [
        torch.optim.SGD(module.parameters(), 0.01, 0.9) for module in (network, *plain) if list(module.parameters())
    ]
    torch.manual_seed(0)
    for images in (4, 3, 5):
        x = torch.randn(len(SEEDS), images, *case.shape, dtype=torch.float64)
        outputs = run_step(network, x, compute_loss)
        for place, alone in enumerate(plain):
            with UseStackMasks(network, place) as masked:
                expected_outputs = run_step(alone, x[place], compute_round_loss)
            assert next(masked.masks, None) is None
            for output, expected in zip(outputs, expected_outputs, strict=True):
                torch.testing.assert_close(output[place], expected, rtol=1e-7, atol=1e-9)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for place, alone in enumerate(plain):
        state = {name: value[place] for name, value in network.state_dict().items()}
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-7)
        case.factory().double().load_state_dict(state)
    x = torch.randn(len(SEEDS), 4, *case.shape, dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        outputs = to_list(network.eval()(x))
    assert torch.equal(x, before)
    for place, alone in enumerate(plain):
        for output, expected in zip(outputs, to_list(alone.eval()(x[place].clone())), strict=True):
            torch.testing.assert_close(output[place], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["course", "residual", "tied", "dropouts", "siamese"])
def test_a_round_has_the_same_weights_and_outputs_with_any_other_rounds(name: str) -> None:
    case = NETWORKS[name]
    x = torch.rand(3, 4, *case.shape)
    together = stack(case.factory, [3, 11, 7], case.shape)
    alone = stack(case.factory, [11], case.shape)
    assert all(torch.equal(value[1], alone.state_dict()[key][0]) for key, value in together.state_dict().items())
    for output, expected in zip(to_list(together(x)), to_list(alone(x[1:2])), strict=True):
        torch.testing.assert_close(output[1:2], expected)

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import FC, TorchModule
from pairs_lit.nn.heads import MLP, SoftmaxHead
from pairs_lit.runs.tables import read_curves
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.stacked_network import StackedNetwork
from pairs_lit.training.module import PairModule
from tests.conftest import CONFIGS, Fit
from tests.support.real_world_parts import Altered, AlteredCall, FrozenNorm, MonteCarlo
from tests.support.runs import build_checkpoint_arguments, read_tables, run_predict, run_rejected

PARTS = "tests.support.real_world_parts"


class TestUserModules:
    @pytest.mark.parametrize("stack_size", ["3", "2"])
    @pytest.mark.quick(1)
    def test_writing_into_the_image_does_not_change_predictions(self, stack_size: str, fit: Fit) -> None:
        """Other rounds do not see in-place changes of an image in training, evaluation or prediction."""
        options = ("--rounds.stack_size", stack_size)
        writes = fit("--model.backbone", f"{PARTS}.DividesInPlace", *options, config="fc_aux")
        leaves = fit("--model.backbone", f"{PARTS}.Divides", *options, config="fc_aux")
        assert read_tables(writes) == read_tables(leaves)
        assert run_predict(writes) == run_predict(leaves)

    @pytest.mark.parametrize(
        "options",
        [
            ["--model.head", f"{PARTS}.InPlaceBeforeLinear"],
            ["--model.head", f"{PARTS}.InPlaceBeforeLinear", "--model.readout", "linear"],
            ["--model.head", f"{PARTS}.ReluFirst", "--model.readout", "linear"],
            ["--model.head", f"{PARTS}.ReluFirstInForward", "--model.readout", "linear"],
            ["--model.backbone", f"{PARTS}.ReluFirstBackbone"],
        ],
        ids=lambda options: " ".join(options),
    )
    @pytest.mark.parametrize("sharing", ["shared", "separate"])
    @pytest.mark.quick(1)
    def test_in_place_changes_do_not_break_the_gradients_of_other_modules(
        self, options: list[str], sharing: str, fit: Fit
    ) -> None:
        run_predict(fit(*options, "--model.sharing", sharing, "--model.code_activation", "none", config="fc_aux"))

    def test_stacked_and_traced_in_place_activations_agree(self, fit: Fit) -> None:
        stacked = fit("--model.head", f"{PARTS}.ReluFirst", "--model.readout", "linear", config="fc_aux")
        looped = fit("--model.head", f"{PARTS}.ReluFirstInForward", "--model.readout", "linear", config="fc_aux")
        for name, values in read_curves(stacked / "curves.csv").values.items():
            np.testing.assert_allclose(values, read_curves(looped / "curves.csv").values[name], atol=1e-5)

    def test_counters_of_a_module_do_not_depend_on_the_stack(self, fit: Fit) -> None:
        """Each round has its own copy of a global tensor used as a buffer, and trial calls do not change it."""
        options = ("--model.backbone", f"{PARTS}.Counts")
        together = read_curves(fit(*options, config="fc_aux") / "curves.csv").values["test/loss"]
        one_by_one = fit(*options, "--rounds.stack_size", "1", config="fc_aux")
        np.testing.assert_allclose(read_curves(one_by_one / "curves.csv").values["test/loss"], together, rtol=1e-5)
        alone = fit(*options, "--rounds.count", "1", "--rounds.seed", "2", config="fc_aux")
        np.testing.assert_allclose(
            read_curves(alone / "curves.csv").values["test/loss"][:, 0], together[:, 2], rtol=1e-5
        )

    def test_a_module_may_write_into_repeated_channels(self) -> None:
        backbone = TorchModule(
            (1, 14, 14), module=lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), channels=3
        )
        assert backbone(torch.ones(2, 1, 14, 14)).shape == (2, 3 * 14 * 14)

    def test_one_module_for_all_rounds_is_rejected(self) -> None:
        with pytest.raises(
            PairsLitError, match=r"model.backbone must be a class .*, got one Flatten for all rounds\. Name the class"
        ):
            PairModule(seeds=[0, 1], backbone=nn.Flatten(), head=MLP)

    @pytest.mark.parametrize("stack_size", ["1", "3"])
    def test_a_layer_shared_by_all_networks_is_rejected(
        self, stack_size: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--model.backbone", f"{PARTS}.SharesItsLayer", "--rounds.stack_size", stack_size]
        message = run_rejected(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *options], capsys)
        assert re.search(r"SharesItsLayer has the same parameter 'layer.weight' in two rounds", message)

    def test_a_subclass_of_a_stateless_head_is_not_shared_by_rounds(self) -> None:
        class Scaled(SoftmaxHead):
            def digit_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
                return (logits / logits.abs().mean()).softmax(-1)

        head = PairModule(seeds=[0, 1], backbone=FC, head=Scaled).stacks[0].head
        assert isinstance(head, StackedNetwork)
        x = torch.rand(2, 5, 20) * torch.tensor([1.0, 100.0])[:, None, None]
        torch.testing.assert_close(head(x), torch.stack([Scaled(20)(rows) for rows in x]))

    @pytest.mark.parametrize("kind", ["hook", "gradient hook", "forward"])
    def test_altered_modules_run_in_a_loop(self, kind: str) -> None:
        module = PairModule(seeds=[0, 1], backbone=partial(Altered, kind=kind), head=MLP)
        assert isinstance(module.stacks[0].branch, LoopedCopies)

    @pytest.mark.parametrize("backbone", [FrozenNorm, MonteCarlo, AlteredCall])
    def test_modules_that_override_methods_run_in_a_loop(self, backbone: type[nn.Module]) -> None:
        assert isinstance(PairModule(seeds=[0, 1], backbone=backbone, head=MLP).stacks[0].branch, LoopedCopies)

    def test_a_stateless_head_with_a_hook_is_not_shared(self) -> None:
        def hooked(width: int) -> nn.Module:
            head = SoftmaxHead(width)
            head.register_forward_hook(lambda _module, _inputs, output: output / 2)
            return head

        module = PairModule(seeds=[0, 1], backbone=FC, head=hooked)
        assert isinstance(module.stacks[0].head, LoopedCopies)

    def test_a_frozen_batch_norm_stays_frozen(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.FrozenNorm", config="fc_aux")
        state = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
        assert {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")} == {0}

    def test_lazy_layers_can_be_trained(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.LazyNorm", config="fc_aux")
        assert main(["test", *build_checkpoint_arguments(run)]) == 0

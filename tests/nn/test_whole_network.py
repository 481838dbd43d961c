"""Tests of ``model.network``, a custom whole pair network, and of ``--print_stack``."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import CNN
from pairs_lit.nn.heads import MLP
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.stacking.stacked_network import StackedNetwork
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from tests.conftest import CONFIGS, Fit
from tests.support import pair_networks, reference_impl
from tests.support.runs import run_rejected

PARTS = "tests.support.pair_networks"
KINDS = {
    "siamese": ["Siamese"],
    "a shape, and an argument": ["OneLogit", "--model.network.width", "5", "--model.loss.digits", "none"],
    "a function": ["built", "--model.network.width", "5", "--model.loss.digits", "none"],
    "a loop": ["TwoLogits", "--model.loss.target", "ce", "--model.loss.digits", "none"],
}


def build_options(kind: str) -> list[str]:
    name, *others = KINDS[kind]
    return ["--model.network", f"{PARTS}.{name}", *others]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.quick(1)
def test_a_whole_network_can_be_trained_tested_and_resumed(kind: str, fit: Fit) -> None:
    run = fit(*build_options(kind))
    config = str(run / "config.yaml")
    model = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["model"]
    assert (model["backbone"], model["head"], model["sharing"]) == (None, None, "shared")
    last = ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    assert main(["test", "--config", config, *last]) == 0
    assert main(["predict", "--config", config, *last]) == 0
    longer = fit(*build_options(kind), "--trainer.max_epochs", "4")
    assert main(["fit", "--config", config, *last, "--trainer.max_epochs", "4"]) == 0
    assert (run / "rounds.csv").read_bytes() == (longer / "rounds.csv").read_bytes()


@pytest.mark.parametrize("stack_size", [1, 2])
def test_a_whole_network_computes_the_same_as_its_parts(stack_size: int) -> None:
    seeds = [3, 11]
    whole = PairModule(seeds=seeds, stack_size=stack_size, network=lambda _: pair_networks.Siamese()).double()
    parts = PairModule(
        seeds=seeds, stack_size=stack_size, backbone=CNN, head=MLP, readout="identity", code_activation="relu"
    ).double()
    assert isinstance(whole.stacks[0].network, StackedNetwork)
    batch = reference_impl.draw_batch(stack_size, 6)
    for whole_stack, parts_stack in zip(whole.pair_stacks, parts.pair_stacks, strict=True):
        output, expected = whole_stack(batch.images), parts_stack(batch.images)
        reference_impl.check_close(output.output, expected.output)
        reference_impl.check_close(output.digit_logits, expected.digit_logits)
        assert output.kind == expected.kind == "logit"


def test_a_looped_network_may_have_any_output_shape() -> None:
    loss = PairLoss(target="ce", digits="none")
    module = PairModule(seeds=[0, 1], stack_size=2, network=pair_networks.TwoLogits, loss=loss).double()
    stack = module.pair_stacks[0]
    assert isinstance(stack.network.network, LoopedCopies)
    images = reference_impl.draw_batch(2, 5).images
    output = stack(images)
    assert (output.kind, output.digit_logits) == ("logits", None)
    for place, seed in enumerate([0, 1]):
        plain = reference_impl.build_plain(lambda: pair_networks.TwoLogits((2, 14, 14)), seed).double()
        reference_impl.check_close(output.output[place], plain(images[place]))


REJECTED = {
    f"--model.network {PARTS}.MapsOfDigits": r"gave \(2, 2, 10\) and NoneType for N = 2",
    f"--model.network {PARTS}.NineDigits": r"gave \(2, 1\) and \(2, 2, 9\) for N = 2",
    f"--model.network {PARTS}.Nope": "model.network: module 'tests.support.pair_networks' has no attribute 'Nope', got",
    f"--model.network {PARTS}.no_module": "must return a torch module, got int",
    f"--model.network {PARTS}.siamese": f"model.network must be a class or function .*, got the module {PARTS}.siamese",
    f"--model.network {PARTS}.Siamese --model.network.width 3": "model.network cannot be built .*'width'",
    f"--model.network {PARTS}.OneLogit": "digit",
    "--model.backbone null": "model.backbone is missing. Set model.backbone and model.head, or a whole pair network",
    "--model.head null": "model.head is missing. Set model.backbone and model.head, or a whole pair network",
}


@pytest.mark.parametrize("options", REJECTED)
def test_invalid_networks_end_in_a_one_line_error(
    options: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = run_rejected(["fit", "--config", str(CONFIGS / "cnn_aux.yaml"), *tiny_options, *options.split()], capsys)
    assert re.search(REJECTED[options], message)


def test_a_whole_network_together_with_parts_is_rejected() -> None:
    with pytest.raises(PairsLitError, match=r"cannot be combined with model\.backbone\. Leave out backbone, readout"):
        PairModule(seeds=[0], network=lambda _: pair_networks.Siamese(), backbone=CNN, readout="linear")


def test_networks_with_random_output_widths_are_rejected() -> None:
    def build_random(shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(392, 1 + int(torch.initial_seed() % 2)))

    with pytest.raises(PairsLitError, match="embeddings or outputs of widths 1, 2"):
        PairModule(seeds=[0, 1], network=build_random)


def test_a_fit_prints_the_replaced_parts_and_why_the_network_is_looped(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(*build_options("a loop"))
    notices = capsys.readouterr().err
    replaced = "model.backbone, model.head, model.readout, model.code_activation"
    assert f"model.network replaces these settings: {replaced}.\n" in notices
    reason = r"TwoLogits trains as copies in a loop, which is slower: it branches on a tensor's value at "
    assert len(re.findall(rf"{reason}pair_networks.py:\d+\.", notices)) == 1
    assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 392 * 8 + 8 + 18


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("siamese", [r"conv1: Conv2d\(1, 16.*max-pool 2×2, ReLU +maps +\(N, 16, 6, 6\)", r"view +rows +\(N, 32\)"]),
        ("a loop", [r"copies in a loop: TwoLogits branches on a tensor's value at pair_networks.py:\d+"]),
    ],
)
def test_print_stack_prints_the_stack_without_training(
    kind: str, lines: list[str], tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--config", str(CONFIGS / "cnn_aux.yaml"), *tiny_options, *build_options(kind)]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--print_stack", "true", "--trainer.default_root_dir", str(tmp_path)])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 rounds in 1 stack of 3\n\nnetwork\n")
    assert all(re.search(line, printed) for line in lines)
    assert list(tmp_path.iterdir()) == []

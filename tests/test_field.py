"""What everyday use brought out, case by case: each stood in a public report of people who do this work."""

import csv
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import torchvision
import yaml
from torch import nn

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.checkpoints.values import plain
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import FC, TorchModule
from pairs_lit.nn.built import Built, takes_shape
from pairs_lit.nn.heads import MLP, SoftmaxHead
from pairs_lit.runs.run_folder import name_from
from pairs_lit.runs.tables import read_curves
from pairs_lit.stacking.looped import Loop
from pairs_lit.stacking.stacked_network import StackedNetwork
from pairs_lit.system.console import any_encoding
from pairs_lit.system.libraries import drop_missing_backend
from pairs_lit.system.threads import asked_threads, computing_on
from pairs_lit.training.batch_checks import check_batches
from pairs_lit.training.module import PairModule
from tests import field_parts
from tests.conftest import CONFIGS, Fit, write_mnist
from tests.field_parts import Altered, AlteredCall, FrozenNorm, KeepsThings, MonteCarlo
from tests.test_errors import refused

PARTS = "tests.field_parts"
CALLBACKS = "lightning.pytorch.callbacks"
COMMAND = [sys.executable, "-m", "pairs_lit"]


def tables(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("rounds.csv", "curves.csv")]


def last(run: Path) -> list[str]:
    return ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]


def predictions(run: Path) -> bytes:
    assert main(["predict", *last(run)]) == 0
    return (run / "predictions.csv").read_bytes()


def process(*arguments: str, **environment: str | None) -> "subprocess.CompletedProcess[bytes]":
    """Run a command as a process of its own; None takes a variable away."""
    around = {key: value for key, value in (os.environ | environment).items() if value is not None}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, env=around, timeout=300)


class TestWhateverAModuleDoesToItsInput:
    @pytest.mark.parametrize("stack_size", ["3", "2"])
    @pytest.mark.quick(1)
    def test_predictions_are_those_of_the_twin(self, stack_size: str, fit: Fit) -> None:
        """In place into the image: no other round sees it, in training, evaluation or prediction."""
        options = ("--rounds.stack_size", stack_size)
        writes = fit("--model.backbone", f"{PARTS}.DividesInPlace", *options, config="fc_aux")
        leaves = fit("--model.backbone", f"{PARTS}.Divides", *options, config="fc_aux")
        assert tables(writes) == tables(leaves)
        assert predictions(writes) == predictions(leaves)

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
    def test_no_module_fails_because_of_what_another_keeps(self, options: list[str], sharing: str, fit: Fit) -> None:
        predictions(fit(*options, "--model.sharing", sharing, "--model.code_activation", "none", config="fc_aux"))

    def test_an_activation_in_place_is_the_plain_one(self, fit: Fit) -> None:
        stacked = fit("--model.head", f"{PARTS}.ReluFirst", "--model.readout", "linear", config="fc_aux")
        looped = fit("--model.head", f"{PARTS}.ReluFirstInForward", "--model.readout", "linear", config="fc_aux")
        for name, values in read_curves(stacked / "curves.csv").values.items():
            np.testing.assert_allclose(values, read_curves(looped / "curves.csv").values[name], atol=1e-5)

    def test_what_a_module_counts_does_not_depend_on_its_place(self, fit: Fit) -> None:
        """A constant of its file as a buffer: each round has its own, and no trial of the first round is counted."""
        options = ("--model.backbone", f"{PARTS}.Counts")
        together = read_curves(fit(*options, config="fc_aux") / "curves.csv").values["test/loss"]
        one_by_one = fit(*options, "--rounds.stack_size", "1", config="fc_aux")
        np.testing.assert_allclose(read_curves(one_by_one / "curves.csv").values["test/loss"], together, rtol=1e-5)
        alone = fit(*options, "--rounds.count", "1", "--rounds.seed", "2", config="fc_aux")
        np.testing.assert_allclose(
            read_curves(alone / "curves.csv").values["test/loss"][:, 0], together[:, 2], rtol=1e-5
        )

    def test_a_module_that_sees_an_image_three_times_may_write_into_it(self) -> None:
        backbone = TorchModule(
            (1, 14, 14), module=lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), channels=3
        )
        assert backbone(torch.ones(2, 1, 14, 14)).shape == (2, 3 * 14 * 14)

    def test_one_module_for_all_rounds_is_refused(self) -> None:
        with pytest.raises(
            PairsLitError, match=r"model.backbone: one Flatten was built for all rounds: name the class"
        ):
            PairModule(seeds=[0, 1], backbone=nn.Flatten(), head=MLP)

    @pytest.mark.parametrize("stack_size", ["1", "3"])
    def test_a_layer_that_all_networks_share_is_refused(
        self, stack_size: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--model.backbone", f"{PARTS}.SharesItsLayer", "--rounds.stack_size", stack_size]
        message = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *options], capsys)
        assert re.search(r"SharesItsLayer has the same parameter 'layer.weight' in two rounds", message)

    def test_a_head_derived_from_a_head_without_state_is_not_shared_by_rounds(self) -> None:
        class Scaled(SoftmaxHead):
            def digit_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
                return (logits / logits.abs().mean()).softmax(-1)

        head = PairModule(seeds=[0, 1], backbone=FC, head=Scaled).stacks[0].head
        assert isinstance(head, StackedNetwork)
        x = torch.rand(2, 5, 20) * torch.tensor([1.0, 100.0])[:, None, None]
        torch.testing.assert_close(head(x), torch.stack([Scaled(20)(rows) for rows in x]))

    @pytest.mark.parametrize("kind", ["hook", "gradient hook", "forward"])
    def test_a_module_that_does_more_than_its_layers_is_kept_as_copies(self, kind: str) -> None:
        module = PairModule(seeds=[0, 1], backbone=partial(Altered, kind=kind), head=MLP)
        assert isinstance(module.stacks[0].branch, Loop)

    @pytest.mark.parametrize("backbone", [FrozenNorm, MonteCarlo, AlteredCall])
    def test_a_module_with_methods_of_its_own_is_kept_as_copies(self, backbone: type[nn.Module]) -> None:
        assert isinstance(PairModule(seeds=[0, 1], backbone=backbone, head=MLP).stacks[0].branch, Loop)

    def test_a_head_without_state_that_has_a_hook_is_not_shared(self) -> None:
        def hooked(width: int) -> nn.Module:
            head = SoftmaxHead(width)
            head.register_forward_hook(lambda _module, _inputs, output: output / 2)
            return head

        module = PairModule(seeds=[0, 1], backbone=FC, head=hooked)
        assert isinstance(module.stacks[0].head, Loop)

    def test_a_batch_norm_that_is_frozen_stays_so(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.FrozenNorm", config="fc_aux")
        state = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
        assert {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")} == {0}

    def test_lazy_layers(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.LazyNorm", config="fc_aux")
        assert main(["test", *last(run)]) == 0


class TestARunIsAFunctionOfItsSeed:
    def test_drawn_layers_do_not_depend_on_the_neighbours(self, fit: Fit) -> None:
        """Dropout masks, too: those of copies in a loop are others than those of stacked layers."""
        options = ("--model.backbone", f"{PARTS}.RandomLayers", "--rounds.count")
        together = read_curves(fit(*options, "5", config="fc_aux") / "curves.csv").values
        for seed in range(5):
            alone = fit(*options, "1", "--rounds.seed", str(seed), config="fc_aux")
            for name, values in read_curves(alone / "curves.csv").values.items():
                np.testing.assert_allclose(values[:, 0], together[name][:, seed], rtol=1e-5)

    @pytest.mark.parametrize("size", ["1", "3"])
    def test_a_drawn_width_is_refused(
        self, size: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--model.backbone", f"{PARTS}.RandomWidth", "--model.readout", "none"]
        options += ["--rounds.stack_size", size]
        message = refused(["fit", "--config", str(CONFIGS / "fc.yaml"), *options], capsys)
        assert re.search(
            r"networks of different rounds give codes or answers of widths \d+, \d+, \d+: the width must not depend",
            message,
        )

    def test_a_generator_of_its_own_is_spoken_of(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = (fit("--model.backbone", f"{PARTS}.OwnGenerator", config="fc_aux") for _ in range(2))
        assert capsys.readouterr().err.count("gives another answer when it is evaluated again") == 2
        assert tables(first) == tables(second)

    @pytest.mark.slow
    def test_callbacks_that_draw_early(self, fit: Fit, tmp_path: Path) -> None:
        options = ("--trainer.callbacks", f"{PARTS}.DrawsEarly", "--trainer.max_epochs")
        whole = fit(*options, "3", config="fc_aux")
        torch.rand(1)
        again, part = fit(*options, "3", config="fc_aux"), fit(*options, "2", config="fc_aux")
        assert main(["fit", *last(part), "--trainer.max_epochs", "3"]) == 0
        assert tables(whole) == tables(again) == tables(part)

    def test_a_file_that_draws_and_seeds_when_it_is_imported(
        self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "draws_at_import.py").write_text(
            "import random, torch\nfrom tests.field_parts import OneLayer\n"
            "SHIFT = torch.rand(()) + random.random()\ntorch.manual_seed(3)\nrandom.seed(4)\n"
            "class Net(OneLayer):\n    def forward(self, x):\n        return super().forward(x) + SHIFT\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        torch.manual_seed(1)
        expected = torch.rand(2)
        found = []
        for _ in range(2):
            torch.manual_seed(1)
            found.append(tables(fit("--model.backbone", "draws_at_import.Net", config="fc_aux")))
            assert torch.equal(torch.rand(2), expected)
            del sys.modules["draws_at_import"]
        assert found[0] == found[1]

    @pytest.mark.parametrize("kind", ["torch", "numpy", "python"])
    @pytest.mark.slow
    def test_random_in_evaluation(self, kind: str, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        options = ("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", kind)
        first = fit(*options, config="fc_aux")
        assert capsys.readouterr().err.count("the network draws random numbers in evaluation, too") == 1
        second = fit(*options, config="fc_aux")
        assert tables(first) == tables(second)
        assert predictions(first) == predictions(second)
        alone = fit(*options, "--rounds.count", "1", "--rounds.seed", "2", config="fc_aux")
        together = read_curves(first / "curves.csv").values
        for name, values in read_curves(alone / "curves.csv").values.items():
            np.testing.assert_allclose(values[:, 0], together[name][:, 2], rtol=1e-5)

    def test_test_shows_the_figures_of_the_fit(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", "torch", config="fc_aux")
        assert main(["test", *last(run)]) == 0
        with (run / "test.csv").open() as file:
            shown = [float(row["test_loss"]) for row in csv.DictReader(file)]
        np.testing.assert_allclose(shown, read_curves(run / "curves.csv").values["test/loss"][-1], rtol=1e-6)

    def test_a_network_that_draws_nothing_is_not_spoken_of(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        fit("--model.backbone", f"{PARTS}.OneLayer", config="fc_aux")
        assert "random numbers" not in capsys.readouterr().err

    def test_first_weights_from_numpy_and_python(self, fit: Fit) -> None:
        first, second = (fit("--model.backbone", f"{PARTS}.RandomWeights", config="fc_aux") for _ in range(2))
        assert tables(first) == tables(second)

    def test_a_random_schedule(self, fit: Fit) -> None:
        scheduler = ["--model.lr_scheduler", "torch.optim.lr_scheduler.LambdaLR"]
        options = [*scheduler, "--model.lr_scheduler.lr_lambda", f"{PARTS}.jumpy", "--trainer.max_epochs", "3"]
        first, second = (fit(*options, config="fc_aux") for _ in range(2))
        assert tables(first) == tables(second)

    def test_a_callback_that_draws(self, fit: Fit) -> None:
        options = ("--trainer.callbacks", f"{PARTS}.NoisyImages", "--trainer.max_epochs", "3")
        first, second = (fit(*options, config="fc_aux") for _ in range(2))
        assert tables(first) == tables(second)
        shown = []
        for run in (first, second):
            torch.rand(1)
            assert main(["test", *last(run)]) == 0
            shown.append((run / "test.csv").read_bytes())
        assert shown[0] == shown[1]

    def test_the_users_own_generators_are_left_alone(self, fit: Fit) -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        expected = torch.rand(2), np.random.rand(2)
        torch.manual_seed(3)
        np.random.seed(3)
        fit("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", "numpy", config="fc_aux")
        assert torch.equal(torch.rand(2), expected[0])
        np.testing.assert_array_equal(np.random.rand(2), expected[1])


MODEL4 = str(CONFIGS / "reports" / "pillonel" / "model4.yaml")
ONE_PAIR = {
    "--data.train_pairs 41 --data.batch_size 40 --model.head.hidden [10] --model.head.batch_norm true":
        r"data.batch_size is 40: 41 pairs then come with a batch of 1, .* Expected more than 1 value per channel.*"
        r"set data.batch_size to 38, 39 or 41",
    f"--data.train_pairs 41 --data.batch_size 40 --model.head {PARTS}.NormInForward": "with a batch of 1",
    "--data.batch_size 1 --model.head.hidden [10] --model.head.batch_norm true": "set data.batch_size to 2, 4 or 5",
    "--data.train_pairs 1 --model.head.hidden [10] --model.head.batch_norm true": "Give 2 pairs or more",
}  # fmt: skip


class TestBatchNormAndALastBatchOfOnePair:
    @pytest.mark.parametrize("options", ONE_PAIR)
    def test_one_line_with_the_sizes_that_work(
        self, options: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path)]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        assert re.search(ONE_PAIR[options], refused(arguments, capsys))
        assert not list(tmp_path.iterdir())

    def test_a_shipped_config(self, tiny_options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--data.train_pairs", "100", "--data.batch_size", "33", "--rounds.count", "1"]
        assert re.search(
            "set data.batch_size to .*3[24]", refused(["fit", "--config", MODEL4, *tiny_options, *options], capsys)
        )

    @pytest.mark.parametrize("size", ["38", "39", "41"])
    def test_the_sizes_that_are_named_work(self, size: str, fit: Fit) -> None:
        options = "--data.train_pairs 41 --model.head.hidden [10] --model.head.batch_norm true --data.batch_size"
        fit(*options.split(), size, config="fc_aux")

    def test_swapped_pairs_count(self, fit: Fit) -> None:
        """41 pairs and their swapped twins in batches of 40 leave a last batch of two."""
        options = "--data.train_pairs 41 --data.batch_size 40 --data.swap relabel --model.head.hidden [10] "
        fit(*options.split(), "--model.head.batch_norm", "true", config="fc_aux")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--data.batch_size 3 --model.head {}.Squeezes", r"a batch of 1, .*: it gives an output of shape \(2,\)"),
            ("--data.batch_size 30 --model.head {}.NeedsTwenty", "set data.batch_size to 1[0-9], 1[0-9] or 20"),
            ("--data.batch_size 39 --model.head {}.NeedsTwenty", "set data.batch_size to 1[0-9], 1[0-9] or 20"),
            ("--model.head {}.WritesIntoWhatItNeeds", "trained on a batch of 8 pairs: RuntimeError: one of"),
            ("--data.eval_batch_size 29 --model.head {}.Squeezes", "eval_batch_size is 29: .* cannot be evaluated: it"),
            ("--data.eval_batch_size 29 --model.backbone {}.BatchStatistics --model.sharing separate",
             "eval_batch_size is 29: 30 pairs then come with a batch of 1"),
        ],
    )  # fmt: skip
    @pytest.mark.quick(2)
    def test_any_batch_that_the_network_cannot_be_shown(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = [
            "--trainer.default_root_dir",
            str(tmp_path),
            "--model.loss.target",
            "ce" if "Squeezes" in options else "bce",
        ]
        given = options.format(PARTS).split()
        assert re.search(
            message, refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *given], capsys)
        )
        assert not list(tmp_path.iterdir())

    def test_sizes_that_are_named_were_tried(self) -> None:
        """Of 10 to 20, only 12, 16, 17 and 18 leave a last batch of 10 pairs or more."""
        with pytest.raises(PairsLitError, match=r"set data.batch_size to 16, 17 or 18\."):
            check_batches(lambda size: None if 10 <= size <= 20 else "no", [46], 20, "data.batch_size", "trained")

    def test_batch_norm_without_running_statistics(self, fit: Fit) -> None:
        fit("--model.backbone", f"{PARTS}.BatchStatistics", config="fc_aux")


class TestThreads:
    @pytest.fixture(autouse=True)
    def _unasked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)

    @staticmethod
    def said(run: Path) -> int:
        return int(json.loads((run / "summary.json").read_text())["threads"])

    def test_one_by_default_whatever_torch_takes_by_itself(self, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pairs_lit.system.threads._UNASKED", {1, 2})
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert self.said(fit(config="cnn_aux")) == 1
            assert torch.get_num_threads() == 2
            torch.set_num_threads(3)
            assert self.said(fit(config="cnn_aux")) == 3
        finally:
            torch.set_num_threads(before)

    def test_another_number_is_kept_used_and_recorded(self, fit: Fit) -> None:
        before = torch.get_num_threads()
        two = fit("--rounds.threads", "2")
        assert self.said(two) == 2
        assert torch.get_num_threads() == before

    @pytest.mark.parametrize("asked", [None, "3"])
    @pytest.mark.slow
    def test_the_environment_is_obeyed(self, asked: str | None, tiny_options: list[str], tmp_path: Path) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        config = str(CONFIGS / "cnn_aux.yaml")
        assert process("fit", "--config", config, *options, OMP_NUM_THREADS=asked).returncode == 0
        (run,) = tmp_path.glob("lightning_logs/*/*")
        assert self.said(run) == int(asked or 1)

    @pytest.mark.slow
    def test_a_number_set_before_the_first_command(self, tiny_options: list[str], tmp_path: Path) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        call = (
            "import sys, torch; torch.set_num_threads(3); from pairs_lit.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", call, "fit", "--config", str(CONFIGS / "fc.yaml"), *options]
        assert subprocess.run(command, capture_output=True, check=False, timeout=300).returncode == 0
        (run,) = tmp_path.glob("lightning_logs/*/*")
        assert self.said(run) == 3

    @pytest.mark.parametrize(("text", "count"), [(" 3", 3), ("3,1", 3), ("", 1), ("0", 1), ("many", 1)])
    def test_forms_of_the_environment(self, text: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        monkeypatch.setattr("pairs_lit.system.threads._UNASKED", {torch.get_num_threads()})
        assert asked_threads() == count

    @pytest.mark.parametrize("option", ["--rounds.threads=100000", "OMP_NUM_THREADS=100000"])
    def test_too_many_are_refused(
        self, option: str, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, *([option] if option.startswith("--") else [])]
        if not option.startswith("--"):
            monkeypatch.setenv(*option.split("="))
            monkeypatch.setattr("pairs_lit.system.threads._UNASKED", {torch.get_num_threads()})
        message = refused(["fit", "--config", str(CONFIGS / "fc.yaml"), *options], capsys)
        assert re.search(r"100000 threads are asked for, by rounds.threads or OMP_NUM_THREADS: take at most", message)

    def test_what_is_set_while_computing_was_asked_for(self) -> None:
        with computing_on(1):
            torch.set_num_threads(2)
            assert asked_threads() == 2

    @pytest.mark.parametrize("asked", ["0", "-2"])
    def test_no_threads_are_refused(
        self, asked: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, "--rounds.threads", asked]
        assert re.search(f"rounds.threads is {asked}: it must be 1 or more", refused(options, capsys))


class TestTrainedWeightsCanBeUsed:
    def test_a_schedule_of_numpy_numbers(self, fit: Fit) -> None:
        scheduler = ["--model.lr_scheduler", "torch.optim.lr_scheduler.LambdaLR"]
        run = fit(*scheduler, "--model.lr_scheduler.lr_lambda", f"{PARTS}.cosine", config="fc_aux")
        before = tables(run)
        assert main(["test", *last(run)]) == 0
        assert main(["fit", *last(run)]) == 0
        assert tables(run) == before

    def test_what_a_callback_leaves_is_stored_in_its_plain_form(self, fit: Fit) -> None:
        run = fit("--trainer.callbacks", f"{PARTS}.KeepsThings", config="fc_aux")
        state = read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]["KeepsThings"]
        assert torch.equal(state.pop("array"), torch.arange(3.0, dtype=torch.float64))
        assert state == {"number": 0.5, "path": "a/b", "last": [1, 2], "seen": [1, 3], "by_kind": {"a": 2, "b": 1}}
        callback = KeepsThings()
        callback.load_state_dict(state)
        assert main(["fit", *last(run), "--trainer.max_epochs", "3"]) == 0

    def test_what_has_no_plain_form_is_refused_at_the_first_save(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1000"]
        options += ["--trainer.callbacks", f"{PARTS}.KeepsAModule"]
        message = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search(
            r"no checkpoint can hold callbacks\['KeepsAModule'\]\['things'\]\[1\]\['inner'\], a torch.nn", message
        )
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_what_a_module_keeps_beside_its_tensors(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.KeepsMore", config="fc_aux")
        before = tables(run)
        assert main(["test", *last(run)]) == 0
        assert main(["fit", *last(run)]) == 0
        assert tables(run) == before

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("late", r"branch.copies.0.kept is float32 \(16, 10\), and was not there when it was built"),
            ("batch", r"kept is float32 \(16, 10\), and was float32 \(2, 3\) when it was built. Make it in the const"),
            ("queue", r"kept is float32 \(5, 3\), and was float32 \(2, 3\)"),
            ("strides", r"kept is float32 \(2, 3\) with strides \(1, 2\), and was float32 \(2, 3\)"),
            ("type", r"kept is int64 \(2, 3\), and was float32 \(2, 3\)"),
        ],
    )
    @pytest.mark.quick(2)
    def test_state_that_no_command_could_load_is_refused_at_the_first_save(
        self, kind: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1000"]
        options += ["--model.backbone", f"{PARTS}.ChangesForm", "--model.backbone.kind", kind]
        said = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search("no checkpoint could be gone on from: the network's .*" + message, said)
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_an_extra_state_that_grows(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.GrowingExtraState", config="fc_aux")
        before = tables(run)
        assert main(["test", *last(run)]) == 0
        assert main(["fit", *last(run)]) == 0
        assert tables(run) == before

    @pytest.mark.parametrize("name", ["hyper_parameters", "loops", "epoch"])
    def test_a_callback_that_changes_what_is_ours(
        self, name: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks"]
        options += [f"{PARTS}.ChangesCheckpoint", "--trainer.callbacks.name", name]
        said = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search("a callback's on_save_checkpoint (changed what pairs-lit|set another epoch)", said)
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_a_callback_that_adds_something_of_its_own(self, fit: Fit) -> None:
        run = fit("--trainer.callbacks", f"{PARTS}.ChangesCheckpoint", "--trainer.callbacks.name", "note")
        assert main(["test", *last(run)]) == 0

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\x00\xff",
            bytearray(b"a"),
            2**1999,
            -(2**1999),
            np.arange(3, dtype=">i4"),
            np.zeros((2, 0)),
            {(1, 2): 3},
        ],
    )
    def test_what_is_stored_can_be_loaded(self, value: object, tmp_path: Path) -> None:
        torch.save(plain(value, "x"), tmp_path / "x.pt")
        loaded = torch.load(tmp_path / "x.pt", weights_only=True)
        np.testing.assert_array_equal(loaded, value) if isinstance(value, np.ndarray) else self._same(loaded, value)

    @staticmethod
    def _same(loaded: object, value: object) -> None:
        assert loaded == value

    @pytest.mark.parametrize("kind", [int, float, str, bytes, complex])
    def test_a_value_of_a_derived_class_is_what_it_stands_for(self, kind: type) -> None:
        lies = {f"__{name}__": lambda _: kind("9") for name in ("int", "float", "str", "bytes", "complex")}
        value = type("Lies", (kind,), lies)(*([b"1"] if kind is bytes else ["1"]))
        found = plain(value, "x")
        assert type(found) is kind
        assert found == value

    @pytest.mark.parametrize("key", [frozenset({1}), (1, frozenset({2})), Path("a")])
    def test_keys_without_a_form_of_their_own_are_refused(self, key: object) -> None:
        with pytest.raises(PairsLitError, match=r"no checkpoint can hold x: its key .* has no plain form, or that of"):
            plain({"a": 1, key: 2}, "x")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.float64(1.5), 1.5),
            (np.bool_(True), True),
            (np.str_("a"), "a"),
            (np.array(3), 3),
            (np.array(["a", "b"]), ["a", "b"]),
            ({np.int64(1): (np.int32(2), [None])}, {1: (2, [None])}),
            (signal.SIGINT, 2),
            (frozenset({2, 1}), [1, 2]),
            (torch.Size([2]), torch.Size([2])),
        ],
    )
    def test_plain_forms(self, value: object, expected: object) -> None:
        found = plain(value, "x")
        assert found == expected
        assert type(found) is type(expected)

    def test_a_parameter_becomes_a_tensor_and_an_array_a_copy(self) -> None:
        array = np.ones(2)
        kept = plain({"array": array, "parameter": nn.Parameter(torch.ones(1))}, "x")
        array[:] = 0
        assert torch.equal(kept["array"], torch.ones(2, dtype=torch.float64))
        assert type(kept["parameter"]) is torch.Tensor

    def test_what_refers_to_itself_is_refused(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        with pytest.raises(
            PairsLitError, match=r"no checkpoint can hold x\[0\].*: it is nested too deeply, or contains itself"
        ):
            plain(loop, "x")

    @pytest.mark.parametrize(
        "value",
        [
            object(),
            torch.ones(2).to_sparse(),
            np.longdouble(1),
            lambda: 0,
            range,
            2**2001,
            np.ma.masked_array([1], [1]),
        ],
    )
    def test_what_has_none_is_refused(self, value: object) -> None:
        with pytest.raises(PairsLitError, match=r"no checkpoint can hold x, a .*: leave it out, or make it numbers"):
            plain(value, "x")


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestNothingOfTheUsersIsOverwritten:
    @pytest.fixture
    def project(self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder of the user's with files that have the names of ours, and a copy of a checkpoint."""
        run = fit(config="fc_aux")
        project = tmp_path / "project"
        (project / "checkpoints").mkdir(parents=True)
        for name in ("test.csv", "validate.csv", "predictions.csv", "config.yaml", "rounds.csv", "curves.csv"):
            (project / name).write_text("mine")
        (project / "notes").mkdir()
        (project / "notes" / f".notes.{'0' * 32}").write_text("of another run")
        for name in ("best.ckpt", "checkpoints/best.ckpt"):
            shutil.copy(run / "checkpoints" / "last.ckpt", project / name)
        shutil.copy(run / "config.yaml", tmp_path / "fc_aux.yaml")
        monkeypatch.chdir(project)
        return project

    @pytest.mark.parametrize("checkpoint", ["best.ckpt", "checkpoints/best.ckpt"])
    @pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
    @pytest.mark.quick(1)
    def test_a_checkpoint_elsewhere(
        self, command: str, checkpoint: str, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = content(project)
        options = ["--trainer.default_root_dir", ".", "--ckpt_path", checkpoint]
        assert main([command, "--config", "../fc_aux.yaml", *options]) == 0
        after = content(project)
        assert {path: after[path] for path in before} == before
        (run,) = project.glob("lightning_logs/fc_aux/*")
        assert {path for path in after if path not in before} == {path for path in after if run in path.parents}
        assert f"{checkpoint} does not lie in the run folder of its own run, so this writes into a new one: " in (
            capsys.readouterr().err
        )
        names = {"fit": "rounds.csv", "test": "test.csv", "validate": "validate.csv", "predict": "predictions.csv"}
        assert (run / names[command]).is_file()

    @pytest.mark.slow
    def test_another_runs_folder_is_not_its_own(self, fit: Fit) -> None:
        first, second = fit(config="fc_aux"), fit("--rounds.seed", "7", config="fc_aux")
        shutil.copy(first / "checkpoints" / "last.ckpt", second / "checkpoints" / "other.ckpt")
        before = content(second)
        config = str(first / "config.yaml")
        assert main(["test", "--config", config, "--ckpt_path", str(second / "checkpoints" / "other.ckpt")]) == 0
        assert content(second) == before

    def test_a_run_that_was_moved_goes_on_in_itself(self, fit: Fit, tmp_path: Path) -> None:
        moved = tmp_path / "the best one"
        fit(config="fc_aux").rename(moved)
        assert main(["test", *last(moved)]) == 0
        assert main(["fit", *last(moved), "--trainer.max_epochs", "3"]) == 0
        assert (moved / "test.csv").is_file()
        assert read_curves(moved / "curves.csv").epochs == 3

    def test_a_run_of_an_earlier_release_goes_on_in_itself(self, fit: Fit) -> None:
        run = fit(config="fc_aux")
        checkpoint = run / "checkpoints" / "last.ckpt"
        saved = read_checkpoint(checkpoint)
        del saved["pairs_lit"]["run"]
        torch.save(saved, checkpoint)
        (run / ".run").unlink()
        assert main(["fit", *last(run), "--trainer.max_epochs", "3"]) == 0
        assert read_curves(run / "curves.csv").epochs == 3

    def test_model_checkpoints_go_into_the_run_folder(
        self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        options = ["--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.save_last", "true"]
        run = fit(*options, "--trainer.callbacks.monitor", "val/accuracy/mean", "--trainer.callbacks.mode", "max")
        assert not (tmp_path / "checkpoints").exists()
        assert {path.suffix for path in (run / "checkpoints").iterdir()} == {".ckpt"}
        best = next(path for path in (run / "checkpoints").iterdir() if path.name.startswith("epoch"))
        assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(best)]) == 0
        assert (run / "test.csv").is_file()
        before = tables(run)
        assert main(["fit", *last(run), "--trainer.max_epochs", "3"]) == 0
        assert not (tmp_path / "checkpoints").exists()
        assert tables(run) != before

    def test_the_monitored_metric_is_the_mean_over_rounds(self, fit: Fit) -> None:
        options = f"--trainer.callbacks {CALLBACKS}.ModelCheckpoint --trainer.callbacks.monitor val/loss/mean".split()
        run = fit(*options, "--trainer.max_epochs", "3")
        best = next(path for path in (run / "checkpoints").iterdir() if path.name.startswith("epoch"))
        (state,) = (
            value for name, value in read_checkpoint(best)["callbacks"].items() if name.startswith("ModelCheckpoint")
        )
        means = read_curves(run / "curves.csv").values["val/loss"].mean(1)
        assert float(state["best_model_score"]) == pytest.approx(means.min(), rel=1e-5)

    def test_a_run_that_got_further_is_not_overwritten(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
        run = fit(*options, "--trainer.max_epochs", "4", config="fc_aux")
        before = content(run)
        (early,) = (run / "checkpoints").glob("epoch=1-*")
        arguments = ["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(early)]
        for rate in ("0.1", "0.2"):
            assert main([*arguments, "--model.optimizer.lr", rate]) == 0
        assert content(run) == before
        assert capsys.readouterr().err.count("is not the latest of its run, so this writes into a new one: ") == 2
        others = sorted(set(run.parent.iterdir()) - {run})
        assert [
            yaml.safe_load((each / "config.yaml").read_text())["model"]["optimizer"]["init_args"]["lr"]
            for each in others
        ] == [0.1, 0.2]
        for each in others:
            assert (each / "config-until-epoch-2.yaml").read_text() == (run / "config.yaml").read_text()
            both = [read_curves(folder / "curves.csv").values["val/loss"] for folder in (run, each)]
            np.testing.assert_array_equal(both[0][:2], both[1][:2])
            assert (both[0][2:] != both[1][2:]).any()

    def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_an_earlier_one(self, fit: Fit) -> None:
        options = ["--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
        run = fit(*options, "--trainer.max_epochs", "3", config="fc_aux")
        before = tables(run)
        (run / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
        (early,) = (run / "checkpoints").glob("epoch=1-*")
        assert main(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(early)]) == 0
        assert tables(run) == before

    @pytest.mark.parametrize("how", ["moved", "linked", "relative"])
    @pytest.mark.quick(1)
    def test_a_model_checkpoint_remembers_its_best(
        self, how: str, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = ["--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.monitor", "val/loss/low"]
        run = fit(*options, "--trainer.max_epochs", "2", config="fc_aux")
        monkeypatch.chdir(tmp_path)
        if how == "moved":
            run = run.rename(tmp_path / "moved")
        elif how == "linked":
            (tmp_path / "link").symlink_to(run)
            run = tmp_path / "link"
        else:
            run = run.relative_to(tmp_path)
        assert main(["fit", *last(run), "--trainer.max_epochs", "4"]) == 0
        assert len(list((run / "checkpoints").glob("epoch*.ckpt"))) == 1  # the former best one was replaced, or kept
        state = read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]
        (kept,) = (value for name, value in state.items() if name.startswith("ModelCheckpoint"))
        losses = read_curves(run / "curves.csv").values["val/loss"]
        assert float(kept["best_model_score"]) == pytest.approx(
            (losses.mean(1) - losses.std(1, ddof=1)).min(), rel=1e-5
        )
        assert Path(kept["best_model_path"]).is_file()

    @pytest.mark.slow
    def test_only_the_last_one_may_be_kept_twice(self, fit: Fit) -> None:
        options = ["--trainer.callbacks.save_top_k", "0", "--trainer.callbacks.save_last", "true"]
        run = fit("--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", *options, config="fc_aux")
        for path in list((run / "checkpoints").iterdir()):
            arguments = ["--config", str(run / "config.yaml"), "--ckpt_path", str(path)]
            assert main(["test", *arguments]) == 0
            assert main(["fit", *arguments, "--trainer.max_epochs", "3"]) == 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                "--trainer.callbacks.save_last true --trainer.callbacks.dirpath x",
                "save_last with dirpath cannot be set",
            ),
            ("--trainer.callbacks.filename last", "filename is last, the run's own file: take another name"),
            (
                "--rounds.count 1 --trainer.callbacks.monitor val/loss/low",
                "monitor is val/loss/low: use val/loss/m",
            ),
            ("--trainer.callbacks.monitor test/accuracy/mean", "nothing is selected on the test set: use val/accuracy"),
            ("--trainer.callbacks.monitor val_loss", "monitor is val_loss: use val/loss/mean, "),
            ("--trainer.callbacks.monitor val/accuracy", "monitor is val/accuracy: use .*val/accuracy/mean"),
            (
                "--trainer.callbacks.every_n_train_steps 5",
                "every_n_train_steps cannot be set: a run can only be resumed from",
            ),
            ("--trainer.callbacks.save_weights_only true", "save_weights_only cannot be set"),
            ("--trainer.callbacks.save_on_exception true", "save_on_exception cannot be set"),
            ("--trainer.callbacks.save_on_train_epoch_end false", "save_on_train_epoch_end cannot be set"),
        ],
    )
    @pytest.mark.quick(2)
    def test_checkpoints_that_no_run_could_use_are_refused(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint"]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        assert re.search(message, refused(arguments, capsys))
        assert not list(tmp_path.iterdir())


SLURM_JOB = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "4"}


class TestSlurm:
    def test_no_fit_takes_a_file_that_it_was_not_given(
        self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in SLURM_JOB.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "hpc_ckpt_1.ckpt").write_text("of somebody else")
        fit(config="fc_aux")
        assert os.environ["SLURM_NTASKS"] == "1"

    @pytest.mark.slow
    def test_one_of_several_processes_is_refused(self, tiny_options: list[str]) -> None:
        done = process("fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, SLURM_PROCID="1")
        assert (done.returncode, done.stderr.count(b"SLURM_PROCID is 1: this is one of several")) == (2, 1)

    @pytest.mark.slow
    def test_sigusr1_saves_and_says_how_to_go_on(self, tiny_options: list[str], tmp_path: Path) -> None:
        whole = [*tiny_options, "--trainer.max_epochs", "100000", "--trainer.default_root_dir", str(tmp_path)]
        arguments = [*COMMAND, "fit", "--config", str(CONFIGS / "fc.yaml"), *whole]
        job = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ | SLURM_JOB, cwd=tmp_path)
        while not any(tmp_path.glob("lightning_logs/*/*/checkpoints/last.ckpt")):
            assert job.poll() is None
            time.sleep(0.1)
        job.send_signal(signal.SIGUSR1)
        _, said = job.communicate(timeout=60)
        (run,) = tmp_path.glob("lightning_logs/*/*")
        assert job.returncode == 128 + signal.SIGUSR1
        told = f"pairs-lit: stopped by SIGUSR1; what was saved is kept, and pairs-lit fit {run} goes on."
        assert said.splitlines()[-1] == told
        assert not list(tmp_path.glob("*.ckpt"))
        epochs = read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] + 1
        assert main(["fit", str(run), "--trainer.max_epochs", str(epochs + 1)]) == 0
        assert read_curves(run / "curves.csv").epochs == epochs + 1

    def test_announced_in_the_last_epoch_a_fit_ends_as_usual(self, fit: Fit) -> None:
        run = fit("--trainer.callbacks", f"{PARTS}.Announces", config="fc_aux")
        assert (run / "summary.json").is_file()

    def test_announced_in_the_last_epoch_of_a_fit_reproduce_ends_after_it(
        self, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for row in ("net1", "net2"):
            content = yaml.safe_load((CONFIGS / "reports" / "hakobyan" / f"{row}.yaml").read_text())
            content["trainer"] |= {"max_epochs": 2, "callbacks": [{"class_path": f"{PARTS}.Announces"}]}
            content["data"] |= {"train_pairs": 40, "val_pairs": 20, "test_pairs": 30, "batch_size": 20}
            content["rounds"]["count"] = 2
            (tmp_path / "reports" / "hakobyan").mkdir(exist_ok=True, parents=True)
            (tmp_path / "reports" / "hakobyan" / f"{row}.yaml").write_text(yaml.safe_dump(content))
        options = ["--configs", str(tmp_path), "--data.root", str(tiny_root), "--data.allow_unverified"]
        options += ["--runs", str(tmp_path), "--output", str(tmp_path / "results")]
        assert main(["reproduce", "hakobyan", *options]) == 128 + signal.SIGUSR1
        assert "stopped by SIGUSR1; what was saved is kept, and the same call goes on." in capsys.readouterr().err
        assert len(list(tmp_path.glob("lightning_logs/*/*/summary.json"))) == 1
        assert main(["reproduce", "hakobyan", *options]) == 128 + signal.SIGUSR1
        assert len(list(tmp_path.glob("lightning_logs/*/*/summary.json"))) == 2

    def test_sigusr1_while_nothing_trains_ends_in_one_line(self, tiny_options: list[str], tmp_path: Path) -> None:
        arguments = [*COMMAND, "fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options]
        job = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert job.stderr is not None
        job.stderr.readline()  # "loading PyTorch and Lightning …"
        job.send_signal(signal.SIGUSR1)
        _, said = job.communicate(timeout=60)
        assert job.returncode == 128 + signal.SIGUSR1
        assert said.splitlines()[-1].startswith("pairs-lit: stopped by SIGUSR1; ")
        assert "Traceback" not in said

    def test_the_handler_of_before_is_put_back(self, fit: Fit) -> None:
        before = signal.getsignal(signal.SIGUSR1)
        fit(config="fc_aux")
        assert signal.getsignal(signal.SIGUSR1) is before


class TestHome:
    @pytest.fixture
    def home(self, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        home = tmp_path / "home"
        (home / "mnist").parent.mkdir()
        shutil.copytree(tiny_root, home / "mnist")
        monkeypatch.setenv("HOME", str(home))
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        return home

    def test_every_path_of_configs_and_command_line(
        self, home: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "data.yaml").write_text(
            yaml.safe_dump({"root": "~/mnist", "source": "mnist", "allow_unverified": True})
        )
        (home / "my.yaml").write_text((CONFIGS / "fc_aux.yaml").read_text())
        logger = ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "~/csv"]
        given = ["--config=~/my.yaml", *tiny_options, "--data", "~/data.yaml", "--trainer.default_root_dir", "~/runs"]
        assert main(["fit", *given, *logger]) == 0
        (run,) = home.glob("runs/lightning_logs/my/*")
        assert (home / "csv").is_dir()
        shown = f"~/{run.relative_to(home)}"
        options = ["--config", f"{shown}/config.yaml", "--ckpt_path", f"{shown}/checkpoints/last.ckpt"]
        assert main(["test", *options]) == 0
        assert main(["compare", shown, "--figure", "~/figure.png", "--output", "~/table.txt"]) == 0
        assert (home / "figure.png").is_file()
        monkeypatch.setenv("PAIRS_LIT_DATA", "~/mnist")
        arguments = ["fit", "--config", "~/my.yaml", *tiny_options, "--trainer.default_root_dir", "~/runs"]
        del arguments[arguments.index("--data.root") : arguments.index("--data.root") + 2]
        assert main(arguments) == 0
        assert list(Path.cwd().iterdir()) == []

    def test_a_bare_tilde_after_an_equals_sign(self, home: Path, tiny_options: list[str]) -> None:
        """No shell replaces it, and YAML takes it for null."""
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, "--trainer.default_root_dir=~"]
        assert main(arguments) == 0
        assert list(home.glob("lightning_logs/fc_aux/*/rounds.csv"))

    def test_a_home_that_does_not_exist_in_a_config(
        self, home: Path, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", "~nobody_of_that_name/runs"]
        message = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert "~nobody_of_that_name/runs: there is no such home folder" in message
        assert list(Path.cwd().iterdir()) == []

    def test_no_such_home(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(["compare", "~nobody_of_that_name/run"], capsys)
        assert re.search("~nobody_of_that_name/run: there is no such home folder", message)


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def packed(raw: Path, spell: Callable[[str], str] = str) -> None:
    for name in NAMES:
        (raw / f"{spell(name)}.gz").write_bytes(gzip.compress((raw / name).read_bytes(), 1))
        (raw / name).unlink()


def dotted(raw: Path) -> None:
    for name in NAMES:
        (raw / name).rename(raw / name.replace("-idx", ".idx"))


class TestMnistsFiles:
    @pytest.fixture
    def refuse_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pairs_lit.data.mnist._reachable", lambda mirrors: False)

    @pytest.mark.parametrize("place", ["", "MNIST", "MNIST/raw"])
    @pytest.mark.parametrize(
        "form",
        [lambda raw: None, packed, dotted, lambda raw: packed(raw, lambda name: name.replace("-idx", ".idx"))],
        ids=["plain", "packed", "dotted", "packed and dotted"],
    )
    @pytest.mark.usefixtures("refuse_network")
    @pytest.mark.quick(2)
    def test_are_found_as_they_lie_there(
        self, place: str, form: Callable[[Path], None], fit: Fit, tiny_root: Path, tmp_path: Path
    ) -> None:
        root = write_mnist(tmp_path / "mnist")
        form(root / "MNIST" / "raw")
        run = fit("--data.root", str(root / place), config="fc_aux")
        assert tables(run) == tables(fit(config="fc_aux"))

    @pytest.mark.parametrize("form", [packed, dotted])
    def test_of_real_mnist_are_verified(self, form: Callable[[Path], None], mnist_root: Path, tmp_path: Path) -> None:
        from pairs_lit.data.sources import load_source

        raw = tmp_path / "raw"
        raw.mkdir()
        for name in NAMES:
            shutil.copy(mnist_root / "MNIST" / "raw" / name, raw / name)
            (raw / name).chmod(0o644)
        form(raw)
        for root in (tmp_path, raw):
            source = load_source("mnist", root, allow_unverified=False)
            assert (source.name, len(source.train.labels)) == ("mnist", 60_000)

    @pytest.mark.usefixtures("refuse_network")
    def test_a_damaged_packed_file_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        raw = write_mnist(tmp_path) / "MNIST" / "raw"
        packed(raw)
        file = raw / "t10k-images-idx3-ubyte.gz"
        for damaged in (file.read_bytes()[:-200], b"<html>not found</html>", b""):
            file.write_bytes(damaged)
            options = [
                "fit",
                "--config",
                str(CONFIGS / "fc.yaml"),
                "--data.root",
                str(tmp_path),
                "--data.source",
                "mnist",
            ]
            message = refused([*options, "--data.allow_unverified", "true"], capsys)
            assert re.search(
                r"t10k-images-idx3-ubyte.gz (is damaged and cannot be unpacked|is not in MNIST's)", message
            )

    @pytest.mark.usefixtures("refuse_network")
    @pytest.mark.slow
    def test_are_found_wherever_each_lies(self, fit: Fit, tmp_path: Path) -> None:
        """One packed without saying so, one unpacked that says so, one beside the folder, one in its own folder."""
        raw = write_mnist(tmp_path / "mnist") / "MNIST" / "raw"
        images, labels, tests, last_one = (raw / name for name in NAMES)
        images.write_bytes(gzip.compress(images.read_bytes(), 1))
        labels.rename(raw / f"{labels.name}.gz")
        tests.rename(tmp_path / "mnist" / tests.name)
        content = last_one.read_bytes()
        last_one.unlink()
        last_one.mkdir()
        (last_one / last_one.name).write_bytes(content)
        for root in (tmp_path / "mnist", tmp_path / "mnist" / tests.name):
            assert tables(fit("--data.root", str(root), config="fc_aux")) == tables(fit(config="fc_aux"))

    @pytest.mark.usefixtures("refuse_network")
    def test_what_was_found_and_what_is_wanted_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "mnist.npz").write_text("")
        (tmp_path / "train-images-idx3-ubyte").write_text("")
        options = ["fit", "--config", str(CONFIGS / "fc.yaml"), "--data.root", str(tmp_path), "--data.source", "mnist"]
        message = refused(options, capsys)
        assert re.search(
            r"found: mnist.npz, train-images-idx3-ubyte; wanted: train-labels-idx1-ubyte\[.gz\], ", message
        )


class TestBuilders:
    def test_an_argument_that_is_a_class(self) -> None:
        arguments = {"num_classes": 10, "norm_layer": "torch.nn.InstanceNorm2d"}
        built = Built((1, 28, 28), builder="torchvision.models.resnet18", arguments=arguments)
        assert any(isinstance(layer, nn.InstanceNorm2d) for layer in built.modules())
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in built.modules())

    def test_a_text_that_looks_like_a_class_stays_a_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def named(shape: tuple[int, int, int], name: str, file: object = None) -> nn.Module:
            assert (name, file) == ("torch.nn.ReLU", "torch.nn.ReLU")
            return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))

        monkeypatch.setattr(field_parts, "named", named, raising=False)
        arguments = {"name": "torch.nn.ReLU", "file": "torch.nn.ReLU"}
        Built((1, 14, 14), builder=f"{PARTS}.named", arguments=arguments)

    @pytest.mark.slow
    def test_a_function_of_torchvision_with_arguments(self, fit: Fit) -> None:
        options = ["--model.backbone", "torchvision.models.resnet18", "--model.backbone.num_classes", "10"]
        run = fit(*options, "--rounds.count", "2", "--trainer.max_epochs", "1", config="fc_aux")
        plain_size = sum(value.numel() for value in torchvision.models.resnet18(num_classes=10).parameters())
        head = 21
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == plain_size + head
        assert main(["test", *last(run)]) == 0

    @pytest.mark.parametrize(
        "backbone",
        [
            f"{PARTS}.NoShape",
            {"class_path": f"{PARTS}.NoShape", "init_args": {"hidden": 3}},
            {"class_path": f"{PARTS}.sequential", "init_args": {"width": 3}},
            {"class_path": f"{PARTS}.InChannels", "init_args": {"in_features": 196}},
            f"{PARTS}.sequential",
        ],
        ids=str,
    )
    @pytest.mark.quick(2)
    def test_in_a_config_file(self, backbone: object, fit: Fit, tmp_path: Path) -> None:
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        content["model"]["backbone"] = backbone
        config = tmp_path / "mine.yaml"
        config.write_text(yaml.safe_dump(content))
        run = fit(config=config)
        assert tables(fit(config=run / "config.yaml")) == tables(run)

    def test_arguments_on_the_command_line_beat_those_of_the_file(self, fit: Fit, tmp_path: Path) -> None:
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        content["model"]["backbone"] = {"class_path": f"{PARTS}.sequential", "init_args": {"width": 3}}
        config = tmp_path / "mine.yaml"
        config.write_text(yaml.safe_dump(content))
        run = fit("--model.backbone.width", "5", config=config)
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 5 + 6 * 10 + 21

    @pytest.mark.parametrize(
        ("options", "note"),
        [
            ("--model.backbone.channels 5", "5 'a' 7 None"),
            ("--model.backbone.name 007 --model.backbone.flag null", "3 '007' None None"),
            ("--model.backbone.choice [1,x] --model.backbone.flag 1e-3", "3 'a' 0.001 [1, 'x']"),
            ("--model.backbone.init_args.flag true", "3 'a' True None"),
        ],
    )
    @pytest.mark.parametrize("form", ["option", "text", "file", "class_path", "input"])
    @pytest.mark.quick(1)
    def test_arguments_arrive_as_they_were_meant(
        self,
        form: str,
        options: str,
        note: str,
        tiny_options: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = f"{PARTS}.options_of_its_own"
        given = {
            "option": ["--config", str(CONFIGS / "fc_aux.yaml"), "--model.backbone", path],
            "text": ["--config", str(CONFIGS / "fc_aux.yaml"), f'--model.backbone={{"class_path": "{path}"}}'],
            "class_path": ["--config", str(CONFIGS / "fc_aux.yaml"), f"--model.backbone.class_path={path}"],
        }
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        content["model"]["backbone"] = {"class_path": path, "init_args": {"choice": None}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(content)))
        given |= {"file": ["--config", str(tmp_path / "mine.yaml")], "input": ["--config", "-"]}
        root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
        assert main(["fit", *given[form], *tiny_options, *root, *options.split()]) == 0
        (run,) = tmp_path.glob("lightning_logs/*/*")
        network = read_checkpoint(run / "checkpoints" / "last.ckpt")["pairs_lit"]["network"]
        assert f"(1): Noted({note})" in network
        assert main(["test", *last(run)]) == 0

    @pytest.mark.parametrize(
        "backbone",
        [f"{PARTS}.Makers.by_class", f"{PARTS}.Makers.static", f"{PARTS}.partial_of_sequential"],
    )
    @pytest.mark.quick(1)
    def test_anything_that_builds(self, backbone: str, fit: Fit) -> None:
        run = fit("--model.backbone", backbone, config="fc_aux")
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 3 + 4 * 10 + 21

    @pytest.mark.parametrize("whole", [True, False], ids=["model", "backbone"])
    def test_in_a_section_of_its_own(self, whole: bool, fit: Fit, tmp_path: Path) -> None:
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        backbone = {"class_path": f"{PARTS}.sequential", "init_args": {"width": 3}}
        section = content["model"] | {"backbone": backbone} if whole else backbone
        (tmp_path / "section.yaml").write_text(yaml.safe_dump(section))
        content["model"] = "section.yaml" if whole else content["model"] | {"backbone": "section.yaml"}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        run = fit(config=tmp_path / "mine.yaml")
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 3 + 4 * 10 + 21

    @pytest.mark.parametrize("spec", [{"dict_kwargs": {"width": 3}}, {"init_args": {}, "dict_kwargs": {"width": 3}}])
    def test_other_keys_of_the_spec(self, spec: dict[str, object], fit: Fit) -> None:
        backbone = json.dumps({"class_path": f"{PARTS}.sequential"} | spec)
        run = fit(f"--model.backbone={backbone}", config="fc_aux")
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 3 + 4 * 10 + 21

    def test_a_function_that_gives_known_layers_trains_as_one_stack(self) -> None:
        def factory(shape: tuple[int, int, int]) -> nn.Module:
            return Built(shape, builder=f"{PARTS}.sequential", arguments={"width": 4})

        module = PairModule(seeds=[0, 1], backbone=factory, head=MLP)
        assert not any(isinstance(part, Loop) for part in module.modules())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                "torchvision.models.resnet18 --model.backbone.classes 10",
                "cannot be built .*unexpected keyword.*'classes'",
            ),
            (f"{PARTS}.NoShape --model.backbone.nokey 3", "cannot be built .*unexpected keyword argument 'nokey'"),
            (f"{PARTS}.InChannels", "cannot be built for an input of .*if it takes no image shape, name its arguments"),
            (f"{PARTS}.cosine", "cannot be built"),
            ("torchvision.models.resnet18", "a code of width 10, but the backbone's is 1000"),
            ("torchvision.models.squeezenet1_0", "cannot be built|Output size is too small"),
            ("torchvision.models.resnet18 --model.backbone.size 0", "size is 0: it must be 1 or more"),
            (f'{{"class_path":"{PARTS}.sequential","widht":3}}', "model.backbone: "),
        ],
    )
    def test_a_builder_that_cannot_be_called_so(
        self, options: str, message: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = [
            "fit",
            "--config",
            str(CONFIGS / "fc_aux.yaml"),
            *tiny_options,
            "--model.backbone",
            *options.split(),
        ]
        assert re.search(message, refused(arguments, capsys))

    @pytest.mark.parametrize(
        ("builder", "named", "takes"),
        [
            (torchvision.models.resnet18, {}, False),
            (FC, {}, True),
            (nn.Linear, {"in_features": 3}, False),
            (lambda image_shape=(1, 2, 3): None, {}, True),
            (lambda hidden=3: None, {}, False),
            (lambda *layers: None, {}, False),
            (nn.Flatten, {}, False),
        ],
    )
    def test_which_builders_take_the_shape(
        self, builder: Callable[..., object], named: dict[str, object], takes: bool
    ) -> None:
        assert takes_shape(builder, named) == takes

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("nowhere.net", "model.backbone: nowhere.net: ModuleNotFoundError: No module named 'nowhere'"),
            ("math.pi", "model.backbone: math.pi is not a function or class"),
            ("os.getcwd", "os.getcwd returned a str, which is not a torch module"),
        ],
    )
    def test_what_builds_no_module(self, path: str, message: str) -> None:
        with pytest.raises(PairsLitError, match=message):
            Built((1, 14, 14), builder=path)


class TestNotebooks:
    @pytest.mark.parametrize("backend", ["module://matplotlib_inline_that_is_missing.backend", "nonsense"])
    @pytest.mark.slow
    def test_a_backend_that_is_missing(
        self, backend: str, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = fit(config="fc_aux")
        commands = [["compare", str(run), "--figure", str(tmp_path / "figure.png")]]
        commands += [["test", *last(run)]] if backend.startswith("module") else []
        for command in commands:
            done = process(*command, MPLBACKEND=backend)
            assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0)

    def test_a_backend_that_exists_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for backend in ("agg", "Agg", f"module://{matplotlib.__name__}.backends.backend_svg"):
            monkeypatch.setenv("MPLBACKEND", backend)
            monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
            drop_missing_backend()
            assert os.environ["MPLBACKEND"] == backend

    def test_outside_the_main_thread(self, tiny_options: list[str], tmp_path: Path) -> None:
        codes: list[int] = []
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        command = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]
        worker = threading.Thread(target=lambda: codes.append(main(command)))
        worker.start()
        worker.join()
        assert codes == [0]

    def test_two_commands_at_once_in_one_process(self, fit: Fit, tiny_options: list[str], tmp_path: Path) -> None:
        alone = tables(fit("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", "torch", config="fc_aux"))
        options = ["--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, "--model.backbone", f"{PARTS}.OneLayer"]
        options += ["--model.backbone.kind", "torch", "--trainer.default_root_dir"]
        before = threading.excepthook
        workers = [threading.Thread(target=main, args=(["fit", *options, str(tmp_path / name)],)) for name in "abc"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        runs = list(tmp_path.glob("[abc]/lightning_logs/*/*"))
        assert [tables(run) for run in runs] == [alone] * 3
        assert threading.excepthook is before

    def test_without_an_error_stream(
        self, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stderr", None)
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]) == 0

    @pytest.mark.slow
    def test_a_forked_child_after_a_cnn_was_trained(self, tiny_options: list[str], tmp_path: Path) -> None:
        """Also where numba is told to use a threading layer that is missing: the kernels need none."""
        options = ["fit", "--config", str(CONFIGS / "cnn_aux.yaml"), *tiny_options]
        options += ["--trainer.default_root_dir", str(tmp_path)]
        code = (
            "import os, sys; from pairs_lit.cli import main\n"
            f"assert main({options!r}) == 0\n"
            "import torch\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            f"    code = main({options!r})\n"
            "    torch.nn.Conv2d(8, 8, 3)(torch.rand(64, 8, 64, 64)).sum().backward()\n"
            "    os._exit(code)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        around = os.environ | {"NUMBA_THREADING_LAYER": "tbb"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120, env=around)
        assert done.returncode == 0, done.stderr


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
    @pytest.mark.slow
    def test_output_that_cannot_show_everything(self, encoding: str, fit: Fit) -> None:
        run = fit(config="fc_aux")
        commands = [["--help"], ["compare", str(run), str(run)], *([["fit", "--help"]] if encoding == "ascii" else [])]
        for command in commands:
            done = process(*command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
            assert (done.returncode, done.stderr.count(b"Error")) == (0, 0)
            done.stdout.decode(encoding)

    def test_what_cannot_be_shown_is_spelt_plainly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bytes_ = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
        with any_encoding():
            print("0.8 ± 0.1 − 漢 …", flush=True)
        assert bytes_.getvalue() == b"0.8 +/- 0.1 - ? ...\n"
        with pytest.raises(UnicodeEncodeError):
            print("±", flush=True)

    @pytest.mark.slow
    def test_an_ascii_locale_reads_utf_8(self, tiny_options: list[str], tmp_path: Path) -> None:
        config = tmp_path / "mine.yaml"
        text = (CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8")
        config.write_text(f"# α, ±, 漢字\n{text}", encoding="utf-8")
        options = ["--config", str(config), *tiny_options, "--trainer.default_root_dir"]
        ascii_ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = process("fit", *options, str(tmp_path), **ascii_)
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("lightning_logs/mine/*/rounds.csv"))
        done = process("fit", *options, str(tmp_path / "ü"), **ascii_)
        assert (done.returncode, done.stderr.count(b"its name cannot be read in this locale")) == (2, 1)

    def test_a_byte_order_mark(self, fit: Fit, tmp_path: Path) -> None:
        config = tmp_path / "mine.yaml"
        config.write_text((CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8"), encoding="utf-8-sig")
        fit(config=config)

    def test_a_config_that_is_not_utf_8(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = tmp_path / "mine.yaml"
        config.write_bytes("# für\nrounds: {count: 2}\n".encode("latin-1"))
        assert re.search("mine.yaml is not UTF-8 text", refused(["fit", "--config", str(config)], capsys))


class TestConfigForms:
    TEXT = (CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8")

    @pytest.mark.parametrize("form", ["yaml", "json"])
    def test_text_in_place_of_a_file(self, form: str, fit: Fit, tiny_options: list[str], tmp_path: Path) -> None:
        text = self.TEXT if form == "yaml" else json.dumps(yaml.safe_load(self.TEXT))
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        assert main(["fit", "--config", text, *options]) == 0
        (run,) = tmp_path.glob("lightning_logs/run/*")
        assert tables(run) == tables(fit(config="fc_aux"))

    @pytest.mark.slow
    def test_the_standard_input(self, tiny_options: list[str], tmp_path: Path) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        command = [*COMMAND, "fit", "--config", "-", *options]
        done = subprocess.run(command, input=self.TEXT.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("lightning_logs/run/*/rounds.csv"))

    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("my config.yaml", "my_config"),
            ("résumé (2).yaml", "resume_2"),
            ("[α=0.5].yaml", "0.5"),
            ("漢字.yaml", "run"),
            ("a_b-c.1.yaml", "a_b-c.1"),
        ],
    )
    @pytest.mark.quick(2)
    def test_any_file_name(self, file: str, name: str, fit: Fit, tmp_path: Path) -> None:
        config = tmp_path / file
        config.write_text(self.TEXT, encoding="utf-8")
        assert fit(config=config).parent.name == name
        assert name_from(Path(file).stem) == name

    @pytest.mark.parametrize("text", ["", "just text", "[1, 2]"])
    def test_what_is_no_config(
        self, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert re.search("config", refused(["fit", "--config", "-"], capsys))

    @pytest.mark.parametrize("module", ["pairs_lit", "pairs_lit.cli"])
    def test_python_m(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout.startswith("pairs-lit ")
        failed = subprocess.run([*command, "nope"], capture_output=True, text=True, check=False)
        assert (failed.returncode, failed.stderr.count("Traceback")) == (2, 0)


class TestLoadFromCheckpoint:
    def test_with_the_arguments_of_the_run(self, fit: Fit) -> None:
        run = fit("--model.code_activation", "none", config="fc_aux")
        file = run / "checkpoints" / "last.ckpt"
        parts = {"backbone": FC, "head": MLP, "readout": "identity"}
        module = PairModule.load_from_checkpoint(file, seeds=[0, 1, 2], **parts)
        saved = read_checkpoint(file)["state_dict"]
        assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"backbone": FC},
                "load_from_checkpoint: TypeError: .*'seeds'.*: give the arguments of the module that was",
            ),
            (
                {"seeds": [0, 1, 2], "backbone": FC, "head": MLP},
                "does not match the config: network is readout: identity",
            ),
            ({"seeds": [0, 1], "backbone": FC, "head": MLP}, r"seeds is \[0, 1, 2\] in the checkpoint"),
        ],
    )
    def test_with_others(self, arguments: dict[str, object], message: str, fit: Fit) -> None:
        file = fit("--model.code_activation", "none", config="fc_aux") / "checkpoints" / "last.ckpt"
        with pytest.raises(PairsLitError, match=message):
            PairModule.load_from_checkpoint(file, **arguments)


class TestTracebacks:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (f"--trainer.callbacks {PARTS}.Refuses", r"trainer.callbacks: Refuses: ValueError: count .* 7, not 3 \(f"),
            (f"--trainer.callbacks {PARTS}.Refuses --trainer.callbacks.count 5", "count must be 7, not 5"),
            (f"--trainer.logger {PARTS}.RefusingLogger", "logger: RefusingLogger: RuntimeError: no server here"),
            ("--trainer.logger lightning.pytorch.loggers.MLFlowLogger", "trainer.logger: .*mlflow"),
            ("--trainer.logger lightning.pytorch.loggers.WandbLogger", "trainer.logger: .*wandb"),
            ("--trainer.logger lightning.pytorch.loggers.CometLogger", "trainer.logger: .*comet"),
            (f"--trainer.callbacks {CALLBACKS}.ModelCheckpoint --trainer.callbacks.save_top_k -3", "callbacks: .*-3"),
            ("--trainer.profiler nonsense", "trainer: .*profiler.*it can only be one of"),
            ("--trainer.plugins lightning.pytorch.plugins.MixedPrecision --trainer.plugins.precision x "
             "--trainer.plugins.device cpu", "trainer.plugins: "),
            ("--trainer.plugins lightning.pytorch.plugins.TorchCheckpointIO", "TorchCheckpointIO would write"),
        ],
    )  # fmt: skip
    @pytest.mark.quick(4)
    def test_of_constructors(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path)]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        assert re.search(message, refused(arguments, capsys))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "options", [f"--trainer.callbacks {PARTS}.Refuses", f"--trainer.callbacks {PARTS}.FailsInTraining"]
    )
    def test_on_request(
        self,
        options: str,
        tiny_options: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("PAIRS_LIT_TRACEBACK", "1")
        root = ["--trainer.default_root_dir", str(tmp_path)]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]) in (1, 2)
        assert "tests/field_parts.py" in capsys.readouterr().err

    def test_a_callback_that_stops_all_rounds(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks"]
        message = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options, f"{PARTS}.StopsEarly"], capsys)
        assert "a callback set trainer.should_stop after epoch 1, which would end all rounds early" in message
        assert not list(tmp_path.rglob("summary.json"))

    def test_a_connection_of_the_users_own(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks"]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options, f"{PARTS}.LosesItsServer"]) == 1
        assert re.search(r"error: ConnectionError: server gone \(field_parts.py:\d+; ", capsys.readouterr().err)

    def test_a_file_that_cannot_be_imported(
        self,
        tiny_options: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "slipped.py").write_text("class Net(:\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        options = [*tiny_options, "--model.backbone", "slipped.Net"]
        message = refused(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search(r"model.backbone: slipped.Net: SyntaxError: .*\(slipped.py:1\)", message)

    def test_of_a_users_own_code_in_training(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path)]
        options += ["--trainer.callbacks", f"{PARTS}.FailsInTraining"]
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(r"error: KeyError: 'val_loss' \(field_parts.py:\d+; PAIRS_LIT_TRACEBACK=1 shows", line)


class TestWhatIsAcceptedDoesWhatItSays:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ("--trainer.profiler simple --trainer.enable_model_summary true", ("Profiler Report", "Trainable params")),
            ("--trainer.profiler advanced", ("Profiler Report",)),
        ],
    )
    @pytest.mark.slow
    def test_reports_are_shown(
        self, options: str, expected: tuple[str, ...], tiny_options: list[str], tmp_path: Path
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
        done = process("fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, *root, *options.split())
        assert done.returncode == 0
        assert all(each in (done.stdout + done.stderr).decode() for each in expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--trainer.precision 16-mixed", "trainer.precision is 16-mixed: .*use bf16-mixed"),
            ("--trainer.precision 16", "trainer.precision is 16: .*use bf16-mixed"),
            ("--trainer.min_epochs 9", "trainer.min_epochs is 9, more than trainer.max_epochs, 2"),
            ("--trainer.min_epochs -1", "trainer.min_epochs is -1: it must be 1 or more"),
            ("--trainer.val_check_interval 1", "trainer.val_check_interval is 1: it must be 1.0"),
            ("--trainer.val_check_interval 00:00:10:00", "trainer.val_check_interval is .*: it must be 1.0"),
            ("--trainer.limit_train_batches 1", "trainer.limit_train_batches is 1, which may mean one batch or all"),
            ("--trainer.gradient_clip_val -1 --trainer.gradient_clip_algorithm value", "gradient_clip_val is -1"),
            ("--trainer.profiler xla", "trainer.profiler is xla, which needs a TPU"),
            ("--trainer.profiler lightning.pytorch.profilers.SimpleProfiler --trainer.profiler.filename x", "dirpath"),
            (f"--trainer.callbacks {CALLBACKS}.Timer", "the callback Timer would mix rounds or end them early"),
            (f"--trainer.callbacks {CALLBACKS}.spike.SpikeDetection", "the callback SpikeDetection would mix rounds"),
            (f"--model.head {PARTS}.GivesTwo", "a head must return one tensor; GivesTwo returned something else"),
            ("--trainer.sync_batchnorm true", "trainer.sync_batchnorm is True: it must be False"),
            ("--trainer.model_registry mine", "trainer.model_registry is mine: it must be None"),
            ("--trainer.enable_checkpointing false", "trainer.enable_checkpointing is False: .*last.ckpt"),
            ("--trainer.barebones true", "trainer.barebones is True: it must be False, since it would leave out"),
            ("--seed_everything 42", "seed_everything is 42: .*set rounds.seed"),
            ("--seed_everything true", "seed_everything is true: .*set rounds.seed"),
        ],
    )
    @pytest.mark.quick(6)
    def test_or_is_refused_by_its_own_name(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path)]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        said = refused(arguments, capsys)
        assert re.search(message, said)
        assert "ModelCheckpoint" not in said
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "options",
        [
            f"--trainer.callbacks {CALLBACKS}.TQDMProgressBar",
            f"--trainer.callbacks {CALLBACKS}.LearningRateMonitor",
            f"--trainer.callbacks {CALLBACKS}.DeviceStatsMonitor --trainer.callbacks.cpu_stats false",
            f"--trainer.callbacks {CALLBACKS}.ModelSummary",
        ],
    )
    @pytest.mark.quick(2)
    def test_callbacks_of_lightning_work(self, options: str, fit: Fit) -> None:
        run = fit(*options.split(), config="fc_aux")
        assert main(["test", *last(run)]) == 0


class TestCompareOfManyRuns:
    def test_an_unfinished_run_is_left_out_and_named(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        first, second, third = (fit(config="fc_aux") for _ in range(3))
        (third / "summary.json").unlink()
        capsys.readouterr()
        assert main(["compare", str(first), str(second), str(third)]) == 0
        captured = capsys.readouterr()
        assert f"left out (not finished runs): {third}." in captured.err
        assert first.name in captured.out
        assert third.name not in captured.out

    def test_stray_files_are_left_out(self, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run, other = fit(config="fc_aux"), fit(config="fc_aux")
        (tmp_path / "notes.txt").write_text("mine")
        (other / "rounds.csv").unlink()
        assert main(["compare", str(run), str(tmp_path / "notes.txt"), str(other)]) == 0
        assert f"left out (not finished runs): {tmp_path / 'notes.txt'}, {other}." in capsys.readouterr().err

    def test_where_none_is_finished_it_is_an_error(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        run = fit(config="fc_aux")
        (run / "summary.json").unlink()
        assert "is not a finished run (summary.json is missing)" in refused(["compare", str(run)], capsys)

    def test_a_folder_of_runs_names_the_latest_one(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        run = fit(config="fc_aux")
        for folder in (run.parent, run.parent.parent):
            assert f"{folder} is not a finished run" in (said := refused(["compare", str(folder)], capsys))
            assert said.endswith(f"give run folders such as {run}.")

    def test_a_folder_that_does_not_exist_is_an_error(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nowhere is not a finished run" in refused(["compare", str(fit(config="fc_aux")), "nowhere"], capsys)

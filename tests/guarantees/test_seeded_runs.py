import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pairs_lit.cli import main
from pairs_lit.runs.tables import read_curves
from tests.conftest import CONFIGS, Fit
from tests.support.runs import build_checkpoint_arguments, read_tables, run_predict, run_rejected

PARTS = "tests.support.real_world_parts"


class TestRunDependsOnlyOnItsSeed:
    def test_random_layers_do_not_depend_on_other_rounds(self, fit: Fit) -> None:
        """Dropout is included, because copies in a loop draw other masks than stacked layers."""
        options = ("--model.backbone", f"{PARTS}.RandomLayers", "--rounds.count")
        together = read_curves(fit(*options, "5", config="fc_aux") / "curves.csv").values
        for seed in range(5):
            alone = fit(*options, "1", "--rounds.seed", str(seed), config="fc_aux")
            for name, values in read_curves(alone / "curves.csv").values.items():
                np.testing.assert_allclose(values[:, 0], together[name][:, seed], rtol=1e-5)

    @pytest.mark.parametrize("size", ["1", "3"])
    def test_random_width_is_rejected(
        self, size: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--model.backbone", f"{PARTS}.RandomWidth", "--model.readout", "none"]
        options += ["--rounds.stack_size", size]
        message = run_rejected(["fit", "--config", str(CONFIGS / "fc.yaml"), *options], capsys)
        assert re.search(
            r"networks of different rounds have embeddings or outputs of widths \d+, \d+, \d+\. The width must not",
            message,
        )

    def test_network_with_its_own_generator_prints_a_notice(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = (fit("--model.backbone", f"{PARTS}.OwnGenerator", config="fc_aux") for _ in range(2))
        assert capsys.readouterr().err.count("is not deterministic in evaluation mode") == 2
        assert read_tables(first) == read_tables(second)

    @pytest.mark.slow
    def test_callback_that_draws_random_numbers_early(self, fit: Fit, tmp_path: Path) -> None:
        options = ("--trainer.callbacks", f"{PARTS}.DrawsEarly", "--trainer.max_epochs")
        whole = fit(*options, "3", config="fc_aux")
        torch.rand(1)
        again, part = fit(*options, "3", config="fc_aux"), fit(*options, "2", config="fc_aux")
        assert main(["fit", *build_checkpoint_arguments(part), "--trainer.max_epochs", "3"]) == 0
        assert read_tables(whole) == read_tables(again) == read_tables(part)

    def test_module_that_draws_and_seeds_on_import(
        self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "draws_at_import.py").write_text(
            "import random, torch\nfrom tests.support.real_world_parts import OneLayer\n"
            "SHIFT = torch.rand(()) + random.random()\ntorch.manual_seed(3)\nrandom.seed(4)\n"
            "class Net(OneLayer):\n    def forward(self, x):\n        return super().forward(x) + SHIFT\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        torch.manual_seed(1)
        expected = torch.rand(2)
        results = []
        for _ in range(2):
            torch.manual_seed(1)
            results.append(read_tables(fit("--model.backbone", "draws_at_import.Net", config="fc_aux")))
            assert torch.equal(torch.rand(2), expected)
            del sys.modules["draws_at_import"]
        assert results[0] == results[1]

    @pytest.mark.parametrize("kind", ["torch", "numpy", "python"])
    @pytest.mark.slow
    def test_random_numbers_in_evaluation(self, kind: str, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        options = ("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", kind)
        first = fit(*options, config="fc_aux")
        assert capsys.readouterr().err.count("the network draws random numbers in evaluation mode too") == 1
        second = fit(*options, config="fc_aux")
        assert read_tables(first) == read_tables(second)
        assert run_predict(first) == run_predict(second)
        alone = fit(*options, "--rounds.count", "1", "--rounds.seed", "2", config="fc_aux")
        together = read_curves(first / "curves.csv").values
        for name, values in read_curves(alone / "curves.csv").values.items():
            np.testing.assert_allclose(values[:, 0], together[name][:, 2], rtol=1e-5)

    def test_test_command_reproduces_the_losses_of_the_fit(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", "torch", config="fc_aux")
        assert main(["test", *build_checkpoint_arguments(run)]) == 0
        with (run / "test.csv").open() as file:
            losses = [float(row["test_loss"]) for row in csv.DictReader(file)]
        np.testing.assert_allclose(losses, read_curves(run / "curves.csv").values["test/loss"][-1], rtol=1e-6)

    def test_deterministic_network_prints_no_notice(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        fit("--model.backbone", f"{PARTS}.OneLayer", config="fc_aux")
        assert "random numbers" not in capsys.readouterr().err

    def test_initial_weights_from_numpy_and_python(self, fit: Fit) -> None:
        first, second = (fit("--model.backbone", f"{PARTS}.RandomWeights", config="fc_aux") for _ in range(2))
        assert read_tables(first) == read_tables(second)

    def test_random_learning_rate_schedule(self, fit: Fit) -> None:
        scheduler = ["--model.lr_scheduler", "torch.optim.lr_scheduler.LambdaLR"]
        options = [*scheduler, "--model.lr_scheduler.lr_lambda", f"{PARTS}.jumpy", "--trainer.max_epochs", "3"]
        first, second = (fit(*options, config="fc_aux") for _ in range(2))
        assert read_tables(first) == read_tables(second)

    def test_callback_that_draws_random_numbers(self, fit: Fit) -> None:
        options = ("--trainer.callbacks", f"{PARTS}.NoisyImages", "--trainer.max_epochs", "3")
        first, second = (fit(*options, config="fc_aux") for _ in range(2))
        assert read_tables(first) == read_tables(second)
        files = []
        for run in (first, second):
            torch.rand(1)
            assert main(["test", *build_checkpoint_arguments(run)]) == 0
            files.append((run / "test.csv").read_bytes())
        assert files[0] == files[1]

    def test_global_generators_of_the_user_are_restored(self, fit: Fit) -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        expected = torch.rand(2), np.random.rand(2)
        torch.manual_seed(3)
        np.random.seed(3)
        fit("--model.backbone", f"{PARTS}.OneLayer", "--model.backbone.kind", "numpy", config="fc_aux")
        assert torch.equal(torch.rand(2), expected[0])
        np.testing.assert_array_equal(np.random.rand(2), expected[1])

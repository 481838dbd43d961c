"""Compatibility: a run folder of commit 1e058d3 works with every command and reproduces its recorded values."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.runs.tables import read_curves, read_rounds
from tests.support.images import draw_seven

RECORDED = Path(__file__).parent / "old_run"
SEEDS = (0, 1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recorded run in a folder of runs; the current folder is the one that its config expects."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(RECORDED, tmp_path / "lightning_logs" / "cnn_aux" / "20261130-012400-1")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("command", "split"), [("test", "test"), ("validate", "val")])
def test_an_evaluation_gives_the_recorded_accuracies(command: str, split: str, run: Path) -> None:
    assert main([command, str(run)]) == 0
    columns = ["seed", f"{split}_accuracy", f"{split}_digit_accuracy"]
    tables = [rows(run / f"{command}.csv"), rows(RECORDED / "rounds.csv")]
    found, recorded = ([[row[name] for name in columns] for row in table] for table in tables)
    assert found == recorded


def test_predict_gives_the_recorded_probabilities(run: Path) -> None:
    (run / "predictions.csv").unlink()
    assert main(["predict", str(run)]) == 0
    for found, recorded in zip(rows(run / "predictions.csv"), rows(RECORDED / "predictions.csv"), strict=True):
        assert list(found) == list(recorded)
        np.testing.assert_allclose([*map(float, found.values())], [*map(float, recorded.values())], atol=1e-5)


def test_the_networks_of_its_rounds_have_the_recorded_accuracy(run: Path) -> None:
    opened = pairs_lit.Run.load(run)
    bank = opened.trained.data.bank
    pairs = bank.pairs["test"]
    for place, (seed, recorded) in enumerate(zip(SEEDS, read_rounds(RECORDED / "rounds.csv"), strict=True)):
        probability, digits = opened.network(seed)(bank.gather_images(pairs.index, slice(None))[place])
        assert ((probability > 0.5) == pairs.target[place]).double().mean() == pytest.approx(recorded.test_accuracy)
        assert (digits.argmax(-1) == pairs.digits[place]).double().mean() == pytest.approx(recorded.test_digit_accuracy)


def test_its_module_is_loaded_from_the_checkpoint(run: Path) -> None:
    module = pairs_lit.PairModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt").eval()
    images = torch.rand(5, 2, 14, 14)
    with torch.no_grad():
        probabilities = module(images)
        for place, seed in enumerate(SEEDS):
            alone, _ = pairs_lit.Run.load(run).network(seed)(images)
            torch.testing.assert_close(probabilities[place], alone, atol=1e-5, rtol=0)


def test_apply_inspect_export_and_compare_accept_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / "left.png"), str(tmp_path / "right.png")]
    for image in paths:
        draw_seven().save(image)
    assert main(["apply", str(run), *paths]) == 0
    assert main(["inspect", str(run)]) == 0
    assert (run / "inspect" / "report.md").is_file()
    assert main(["export", str(run), "--to", "state_dict", "--output", str(tmp_path / "exported")]) == 0
    weights = load_file(next((tmp_path / "exported").glob("*.safetensors")))
    assert sum(weight.numel() for weight in weights.values()) == 1781
    capsys.readouterr()
    assert main(["compare", str(run), str(run)]) == 0
    assert "0.5450  0.0212" in capsys.readouterr().out


def test_it_resumes(run: Path) -> None:
    assert main(["fit", str(run), "--trainer.max_epochs", "3"]) == 0
    found, recorded = read_curves(run / "curves.csv"), read_curves(RECORDED / "curves.csv")
    assert (found.epochs, recorded.epochs) == (3, 2)
    for metric, values in recorded.values.items():
        np.testing.assert_array_equal(found.values[metric][:2], values)
    assert {path.name for path in run.parent.iterdir()} == {run.name}

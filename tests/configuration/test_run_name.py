"""Labels of runs and tables: run names, and digit accuracy only for networks that were trained to name digits."""

import json
from pathlib import Path

import numpy as np
import pytest

import pairs_lit
from pairs_lit.analysis.tables import format_summary_table
from pairs_lit.cli import main
from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.run import Run
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP, PowerHead
from pairs_lit.runs.metrics import ROUND_METRICS
from pairs_lit.statistics import summarise
from pairs_lit.training.losses import PairLoss
from pairs_lit.training.module import PairModule
from tests.conftest import CONFIGS, Fit
from tests.support.runs import run_rejected

OLD_COLUMNS = ("train_digit_accuracy", "val_digit_accuracy", "test_digit_accuracy")


@pytest.mark.parametrize(
    ("parts", "trains"),
    [
        ({"readout": "identity", "loss": PairLoss(digits="ce", aux_weight=0.5)}, True),
        ({"readout": "linear", "loss": PairLoss(digits="mse", aux_weight=0.5)}, True),
        ({"readout": "identity", "loss": PairLoss(digits="ce", aux_weight=0)}, False),
        ({"readout": "identity", "loss": PairLoss()}, False),
        ({"readout": "linear", "loss": PairLoss()}, False),
        ({"readout": "none", "loss": PairLoss()}, False),
        ({"readout": "identity", "head": PowerHead, "loss": PairLoss(target="mse")}, True),
        ({"readout": "linear", "head": PowerHead, "loss": PairLoss(target="mse")}, False),
        ({"readout": "identity", "head": PowerHead, "loss": PairLoss(target="none", digits="ce")}, True),
    ],
)
def test_digits_are_trained_only_by_some_losses(parts: dict[str, object], trains: bool) -> None:
    module = PairModule(**{"seeds": [0], "backbone": FC, "head": MLP} | parts)  # type: ignore[arg-type]
    assert module.trains_digits is trains


def test_digit_accuracy_is_hidden_if_nothing_trains_it(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files still contain it, but the printed tables do not."""
    options = ("--data.all_pairs", "[test]")
    trained = fit(*options, config="fc_aux")
    assert "digit accuracy" in capsys.readouterr().out
    run = fit(*options, config="fc")
    output = capsys.readouterr().out
    assert "test accuracy, all pairs" in output
    assert "digit" not in output.split("\n\n", 1)[1].partition("run:")[0]
    assert main(["test", str(run)]) == 0
    output = capsys.readouterr().out
    assert "test_accuracy" in output
    assert "digit" not in output.split("\n\n", 1)[1].partition("table:")[0]
    assert "test_digit_accuracy" in (run / "test.csv").read_text()
    loaded = Run.load(run)
    assert all(len(loaded.values(name)) == 3 for name in OLD_COLUMNS)
    assert "test/digit_accuracy" in loaded.curves.values
    assert (loaded.digits_trained, Run.load(trained).digits_trained) == (False, True)
    with pytest.raises(PairsLitError, match=r"fc: its networks were not trained to classify digits, so its test_digit"):
        pairs_lit.compare([run, trained], "test_digit_accuracy")
    assert "test_accuracy" in str(pairs_lit.compare([run, trained]))


def test_apply_shows_no_digits_if_nothing_trains_them(fit: Fit) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    (pair,) = Run.load(fit(config="fc")).apply([(image, image)]).pairs
    assert pair.readings is None


def test_an_older_run_is_compared_as_before(fit: Fit) -> None:
    run = fit(config="fc")
    summary = json.loads((run / "summary.json").read_text())
    del summary["digits_trained"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert Run.load(run).digits_trained is None
    assert "test_digit_accuracy" in str(pairs_lit.compare([run, run], "test_digit_accuracy"))


def test_labels_of_accuracies_contain_the_word() -> None:
    assert all("accuracy" in metric.label for metric in ROUND_METRICS)
    assert "best test accuracy of any epoch (selected on test)" in format_summary_table(
        {"best_test_accuracy": summarise([1])}
    )


def name_of(*options: str) -> str:
    config = run_lightning_command(
        "fit", ["fit", f"--config={CONFIGS / 'fc_aux.yaml'}", *options], kind=ParseOnlyCLI
    ).config.fit
    return str(config.name)


BRANCHING = "--model.backbone=tests.support.user_parts.Branching"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "fc_aux"),
        (("--model.backbone.widths=[3, 10]",), "fc_aux"),
        (("--model.backbone=pairs_lit.nn.backbones.FC",), "fc_aux"),
        (("--model.backbone", "FC"), "fc_aux"),
        ((BRANCHING,), "fc_aux-Branching"),
        (("--model={backbone: tests.support.user_parts.Branching}",), "fc_aux-Branching"),
        ((BRANCHING, "--model.head=SoftmaxHead"), "fc_aux-Branching-SoftmaxHead"),
        (("--model.network=tests.support.pair_networks.Siamese",), "fc_aux-Siamese"),
        (
            ("--model.backbone=torchvision.models.resnet18", "--model.backbone.num_classes=10"),
            "fc_aux-resnet18",
        ),
        ((BRANCHING, "--name=mine"), "mine"),
        ((BRANCHING, "--config={name: mine}"), "mine"),
        ((BRANCHING, "--config={rounds: {count: 2}}"), "run-Branching"),
        (("--config={model: {backbone: tests.support.user_parts.Branching}}",), "run"),
    ],
)
@pytest.mark.quick(6)
def test_a_run_of_another_network_has_another_name(options: tuple[str, ...], name: str) -> None:
    assert name_of(*options) == name


def test_name_of_a_fit_from_the_config_of_a_run(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    """The user did not choose that name, so another network gets a new one; a resumed run keeps its name."""
    run = fit(BRANCHING, config="fc_aux")
    assert run.parent.name == "fc_aux-Branching"
    again = fit("--model.backbone", "pairs_lit.nn.backbones.FC", config=run / "config.yaml")
    assert again.parent.name == "fc_aux-Branching-FC"
    assert main(["fit", str(run), "--trainer.max_epochs", "3"]) == 0
    assert Run.load(run).curves.epochs == 3
    output = str(pairs_lit.compare([run, again]))
    assert "fc_aux-Branching " in output
    assert "fc_aux-Branching-FC " in output


def test_a_config_named_like_a_device_of_windows(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "aux.yaml"
    config.write_text((CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert fit(config=config).parent.name == "aux_"
    assert "must not be the name of a device on Windows, got 'aux'" in run_rejected(
        ["fit", "--config", str(config), "--name", "aux"], capsys
    )


@pytest.mark.parametrize("name", ["aux", "net."])
def test_a_run_of_an_earlier_release_may_have_any_name(name: str, fit: Fit) -> None:
    run = fit(config="fc_aux")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace("name: fc_aux", f"name: {name}"), encoding="utf-8")
    folder = run.parent.with_name(name)
    folder.mkdir()
    run = run.rename(folder / run.name)
    assert Run.load(run).label == name
    assert main(["test", str(run)]) == 0
    assert (run / "test.csv").is_file()

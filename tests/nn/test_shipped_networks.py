from pathlib import Path

import pytest
import yaml

from pairs_lit.reproduction.published import PUBLISHED
from pairs_lit.runs.tables import read_curves, read_rounds
from tests.conftest import CONFIGS, Fit
from tests.support.shipped import BELHADJ, PARAMETERS, RUNNABLE


def _get_name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def test_every_row_of_every_report_has_a_config() -> None:
    assert {_get_name(path) for path in RUNNABLE} == set(PARAMETERS)
    assert sum(len(report.rows) for report in PUBLISHED) == 25


@pytest.mark.parametrize("config", RUNNABLE, ids=_get_name)
@pytest.mark.quick(4)
def test_every_config_trains_with_the_published_number_of_parameters(config: Path, fit: Fit) -> None:
    run = fit(config=config)
    assert run.parent.name == config.stem
    seed = yaml.safe_load(config.read_text(encoding="utf-8"))["rounds"].get("seed", 0)
    assert [result.seed for result in read_rounds(run / "rounds.csv")] == [seed, seed + 1, seed + 2]
    assert all(result.status == "ok" for result in read_rounds(run / "rounds.csv"))
    assert read_curves(run / "curves.csv").epochs == 2
    summary = yaml.safe_load((run / "summary.json").read_text())
    assert summary["parameters_per_round"] == PARAMETERS[_get_name(config)]


@pytest.mark.parametrize("name", BELHADJ)
def test_belhadj_configs_contain_the_published_recipe(name: str, fit: Fit) -> None:
    config = yaml.safe_load((fit("--trainer.max_epochs", "1", config=name) / "config.yaml").read_text())
    shipped = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert shipped["trainer"] == {"max_epochs": 150}
    assert shipped["data"] == {"batch_size": 32, "normalise": "raw"}
    assert config["model"]["optimizer"]["class_path"] == "torch.optim.Adam"
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.001
    loss = config["model"]["loss"]
    assert (loss["target"], loss["digits"], loss["digit_reduction"]) == ("bce", "ce", "sum")
    assert loss["aux_weight"] == (0.5 if name.endswith("aux") else 0.0)
    assert (config["model"]["readout"], config["model"]["code_activation"]) == ("identity", "relu")


@pytest.mark.parametrize("part", ["backbone", "head"])
def test_configs_are_short(part: str) -> None:
    for path in RUNNABLE:
        assert len(path.read_text().splitlines()) <= (54 if path.stem.startswith("record") else 40)
        assert part in yaml.safe_load(path.read_text())["model"]

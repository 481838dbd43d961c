"""Sweeps from the shell and from Python: checks before training, training, and reports."""

import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

import pairs_lit
from pairs_lit import PairsLitError, Run
from pairs_lit.analysis.comparison_tests import compare_rounds
from pairs_lit.cli import main
from pairs_lit.data.pair_store import DataSettings
from pairs_lit.runs.metrics import METRICS_BY_TAG
from pairs_lit.sweeps.limits import DATA_OPTIONS, describe_limits
from pairs_lit.sweeps.report import Sweep, _count_ties
from pairs_lit.sweeps.spec import read_spec
from pairs_lit.sweeps.sweep_options import check_sweep_options
from pairs_lit.sweeps.trial import rank_trials
from pairs_lit.variants.plans import VariantPlan
from pairs_lit.variants.reading import VariantReader
from tests.support.kill_targets import Command
from tests.support.notebooks import read_html
from tests.support.sweeps import ALPHA, LR, build_spec, build_tiny_changes, build_trial


def swept(base: dict[str, object], content: dict[str, Any], config: str = "fc_aux", **more: object) -> Sweep:
    return pairs_lit.sweep(config, content, base, **more)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.loss.alpha": [1]}, "alpha"),
        ({ALPHA: ["much"]}, "aux_weight.*much"),
        ({ALPHA: [-1.0]}, "model.loss.aux_weight must be a finite number, 0 or more, got -1.0"),
        ({"model.backbone.init_args.widths": [[10, 9]]}, "readout: identity needs embeddings of width 10"),
        ({"data.batch_size": [0]}, r"data.batch_size 0: data.batch_size must be 1 or more, got 0"),
        ({LR: {"low": -1.0, "high": 1.0, "steps": 2}}, "Invalid learning rate: -1.0"),
    ],
)
@pytest.mark.quick(2)
def test_values_are_checked_before_anything_is_trained(
    space: dict[str, Any], message: str, base: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(PairsLitError, match=message):
        swept(base, build_spec(space=space))
    assert not list(tmp_path.rglob("*.csv"))


def test_metric_missing_from_the_network_is_rejected(base: dict[str, object]) -> None:
    with pytest.raises(PairsLitError, match=r"metric must be one of val/.* for this network, got val/digit_loss"):
        swept(base | {"model.loss.digits": "none"}, build_spec(space={LR: [0.1]}, metric="val/digit_loss"))


@pytest.mark.parametrize("values", [{"model.loss.digits": "none"}, {"model.loss.aux_weight": 0}])
def test_digit_accuracy_is_rejected_for_networks_without_digit_training(
    base: dict[str, object], values: dict[str, Any]
) -> None:
    with pytest.raises(PairsLitError, match=r"metric must be one of val/.* for this network, got val/digit_acc"):
        swept(base | values, build_spec(space={LR: [0.1]}, metric="val/digit_accuracy"))


@pytest.mark.parametrize(
    ("metric", "option"),
    [
        ("val/loss", "model.loss.aux_weight"),
        ("val/loss", "model.loss.target_weight"),
        ("val/target_loss", "model.loss.target"),
        ("val/digit_loss", "model.loss.digit_reduction"),
        ("val/loss", "model.loss"),
    ],
)
def test_losses_with_varying_definition_are_rejected_as_metric(metric: str, option: str) -> None:
    with pytest.raises(PairsLitError, match=rf"metric is {metric}, whose definition depends on {option}, which .* Use"):
        read_spec(build_spec(space={option: [1, 2]}, metric=metric))


def test_loss_with_fixed_definition_is_accepted_as_metric() -> None:
    assert read_spec(
        build_spec(space={"model.loss.aux_weight": [1, 2]}, metric="val/target_loss")
    ).deciding_metric.is_loss


@pytest.fixture(scope="module")
def done(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Return a small sweep with a confirmation."""
    changes = build_tiny_changes(tiny_root, tmp_path_factory.mktemp("sweep"))
    content = build_spec(
        space={ALPHA: [0.1, 1.0], "model.backbone.init_args.widths": [[8, 10], [12, 10]]},
        rounds={"count": 3, "seed": 5},
        confirm={"count": 4, "seed": 100},
    )
    return pairs_lit.sweep("fc_aux", content, changes, name="small")


def test_every_trial_is_a_run(done: Sweep) -> None:
    assert [each.name for each in sorted(done.folder.glob("0*"))] == ["0000", "0001", "0002", "0003"]
    for each in done.trials:
        run = Run.load(each.folder)
        assert [result.seed for result in run.rounds] == [5, 6, 7]
        assert run.config["model"]["loss"]["aux_weight"] == each.values[ALPHA]
        assert run.config["model"]["backbone"]["init_args"]["widths"] == list(
            each.values["model.backbone.init_args.widths"]
        )
        assert each.scores == run.values("val_accuracy")
        assert list(each.folder.glob("events.out.tfevents*"))
    comparison = pairs_lit.compare([each.folder for each in done.trials], "val_accuracy")
    assert len(comparison.pairs) == 6


def test_search_neither_reads_nor_writes_test_metrics(done: Sweep) -> None:
    for each in done.trials:
        run = Run.load(each.folder)
        assert not run.values("test_accuracy")
        assert not [name for name in run.curves.values if name.startswith("test/")]
        assert "test" not in (each.folder / "summary.json").read_text().replace("test_pairs", "").replace(
            "test_in_train", ""
        )


def test_trial_run_supports_test_and_predict(done: Sweep) -> None:
    folder = done.best.folder
    arguments = ["--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]
    assert main(["test", *arguments]) == 0
    assert main(["predict", *arguments]) == 0
    assert main(["validate", *arguments]) == 0
    with (folder / "validate.csv").open() as lines:
        again = {int(row["seed"]): float(row["val_accuracy"]) for row in csv.DictReader(lines)}
    assert again == pytest.approx(done.best.scores)


def test_winner_and_config_are_confirmed_on_fresh_seeds(done: Sweep) -> None:
    confirmed = done.confirmed
    assert confirmed is not None
    assert confirmed.baseline is not None
    for run in (confirmed.winner, confirmed.baseline):
        assert [result.seed for result in run.rounds] == [100, 101, 102, 103]
        assert len(run.values("test_accuracy")) == 4
    assert confirmed.winner.config["model"]["loss"]["aux_weight"] == done.best.values[ALPHA]
    first, second = (run.values("test_accuracy") for run in (confirmed.winner, confirmed.baseline))
    expected = compare_rounds(first, second, same_data=True)
    assert confirmed.difference is not None
    assert (confirmed.difference.p, confirmed.difference.estimate) == (expected.p, expected.estimate)


def test_report_mentions_unpaired_trials_with_other_data(done: Sweep) -> None:
    first, *others = done.trials
    more = [replace(trial, data={**trial.data, "train_pairs": 20}) for trial in others]
    text = str(replace(done, trials=[first, *more]))
    assert "(paired by seed, or unpaired if the data differ; Holm's correction; level 5 %)" in text


def test_report_shows_selected_trial_and_confirmation(done: Sweep) -> None:
    text = str(done)
    assert "4 trials (grid) × 3 rounds (seeds 5 to 7); val/accuracy after the last epoch" in text
    assert "so the estimate is optimistically biased." in text
    assert "Confirmed on 4 fresh seeds, 100 to 103:" in text
    assert "The selected trial and the baseline do not differ significantly in test accuracy:" in text
    assert "n = 4 pairs of rounds" in text
    assert "\nThe baseline: " in text
    test = "(paired by seed; Holm's correction; level 5 %)"
    assert f"3 of 3 other trials do not differ significantly from the best one {test}" in text
    limit = "with 3 rounds and 3 comparisons the smallest possible p is 0.750; use at least 7 rounds."
    assert f"No trial can differ significantly: {limit}" in text
    assert (done.folder / "report.md").read_text() == f"```\n{text}\n```\n"
    with (done.folder / "trials.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["trial"]) for row in rows] == [each.number for each in done.trials]
    assert [float(row["mean"]) for row in rows] == [each.summary.mean for each in done.trials]
    assert {"values.png", "heat-map.png", "importance.png", "parallel.png", "best.yaml", "sweep.yaml"} <= {
        path.name for path in done.folder.iterdir()
    }
    assert not (done.folder / ".fits").exists() or not list((done.folder / ".fits").rglob("*.ckpt"))


def test_best_yaml_can_be_fitted_unchanged(done: Sweep, tmp_path: Path) -> None:
    content = yaml.safe_load((done.folder / "best.yaml").read_text())
    assert content["data"]["watch_test"] is True
    assert content["rounds"]["seed"] == 0
    run = pairs_lit.fit(done.folder / "best.yaml", {"rounds.count": 2, "trainer.default_root_dir": tmp_path})
    assert run.config["model"]["loss"]["aux_weight"] == done.best.values[ALPHA]
    assert len(run.values("test_accuracy")) == 2


def test_rerunning_a_finished_sweep_trains_nothing(base: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    content = build_spec(confirm={"count": 2, "seed": 50})
    first = swept(base, content)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("rounds.csv")}
    again = swept(base, content)
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("rounds.csv")} == before
    assert str(again) == str(first)


def test_rerunning_a_finished_sweep_reads_no_trials(
    base: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = build_spec(space={ALPHA: [0.1, 0.3, 0.5, 1.0]})
    first = swept(base, content)
    read: list[object] = []
    original = VariantReader.try_variants

    def count(self: VariantReader, changes: Sequence[Mapping[str, object]]) -> list[VariantPlan | Exception]:
        read.extend(each[ALPHA] for each in changes if ALPHA in each)
        return original(self, changes)

    monkeypatch.setattr(VariantReader, "try_variants", count)
    capsys.readouterr()
    assert str(swept(base, content)) == str(first)
    assert set(read) == {0.1, first.best.values[ALPHA]}  # the first one for notices, the best one for best.yaml
    assert "4 of 4 trials already finished" in capsys.readouterr().err
    with pytest.raises(PairsLitError, match=r"model.loss.aux_weight must be a finite number, 0 or more, got -1.0"):
        swept(base, build_spec(space={ALPHA: [0.1, 0.3, 0.5, 1.0, -1.0]}))


@pytest.mark.slow
def test_different_sweep_with_the_same_name_is_rejected(base: dict[str, object]) -> None:
    swept(base, build_spec())
    with pytest.raises(PairsLitError, match=r"the study sweep belongs to a sweep with other settings: .* give --name"):
        swept(base, build_spec(space={ALPHA: [0.2]}))
    with pytest.raises(PairsLitError, match="belongs to a sweep with other settings"):
        swept(base | {"data.batch_size": 20}, build_spec())
    swept(base | {"trainer.devices": 2}, build_spec())  # may differ between machines


@pytest.mark.slow
def test_config_with_the_best_values_has_no_baseline(base: dict[str, object]) -> None:
    result = swept(base, build_spec(space={ALPHA: [0.5]}, confirm={"count": 2, "seed": 50}))
    assert result.confirmed is not None
    assert result.confirmed.difference is None
    assert "The config already has the best values" in str(result)


@pytest.mark.slow
def test_failed_rounds_are_counted(base: dict[str, object]) -> None:
    content = build_spec(space={LR: [1e30, 0.01]}, metric="val/loss")
    result = swept(base | {"model.optimizer": "torch.optim.SGD"}, content)
    assert [each.values[LR] for each in result.trials] == [0.01, 1e30]
    assert result.trials[1].failed == [0, 1]
    assert "failed" in str(result)
    with pytest.raises(PairsLitError, match="every round of every trial failed"):
        swept(base | {"model.optimizer": "torch.optim.SGD"}, build_spec(space={LR: [1e30]}), name="broken")


@pytest.mark.slow
def test_random_and_tpe(base: dict[str, object]) -> None:
    space = {ALPHA: {"low": 0.01, "high": 2.0, "log": True}, LR: {"low": 1e-4, "high": 0.1, "log": True}}
    random = swept(base, build_spec(space=space, sampler="random", trials=5, seed=3), name="random")
    points = read_spec(build_spec(space=space, sampler="random", trials=5, seed=3)).list_points()
    assert sorted(random.trials, key=lambda each: each.number)[0].values == (points or [])[0]
    tpe = swept(base, build_spec(space=space, sampler="tpe", trials=7, at_once=3), name="tpe")
    assert len(tpe.trials) == 7
    assert len({each.values[LR] for each in tpe.trials}) == 7
    again = swept(base | {"trainer.default_root_dir": f"{base['trainer.default_root_dir']}/other"}, tpe_spec(space))
    assert [each.values for each in again.trials] == [each.values for each in tpe.trials]


def tpe_spec(space: dict[str, Any]) -> dict[str, Any]:
    return build_spec(space=space, sampler="tpe", trials=7, at_once=3)


@pytest.mark.slow
def test_optuna_opens_the_storage(base: dict[str, object], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    result = swept(base, build_spec(), name="shared", storage=url)
    study = optuna.load_study(study_name="shared", storage=url)
    assert study.best_trial.number == result.best.number
    assert study.best_value == result.best.summary.mean
    attributes = study.best_trial.user_attrs
    assert attributes["scores"] == {str(seed): value for seed, value in result.best.scores.items()}
    assert (attributes["n"], attributes["failed"]) == (2, [])
    with pytest.raises(PairsLitError, match="--storage nonsense://x cannot be used as the sweep's storage"):
        swept(base, build_spec(), name="elsewhere", storage="nonsense://x")


@pytest.mark.slow
def test_trials_with_user_callbacks_are_fitted_separately(base: dict[str, object]) -> None:
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"monitor": "val/loss/mean"}}
    ]
    result = swept(base | {"trainer.callbacks": callbacks}, build_spec())
    assert len(result.trials) == 2
    for each in result.trials:
        assert len(list((each.folder / "checkpoints").glob("epoch=*.ckpt"))) == 1


def started(base: dict[str, object], file: Path, **more: str) -> Command:
    options = [f"--{name}={json.dumps(value) if isinstance(value, bool) else value}" for name, value in base.items()]
    named = [f"--{name}={value}" for name, value in more.items()]
    return Command(["sweep", "--config", "fc_aux", "--sweep", str(file), *named, *options])


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_killed_sweep_resumes_from_any_moment(sampler: str, base: dict[str, object], tmp_path: Path) -> None:
    space = {ALPHA: [0.1, 0.3, 1.0], LR: [0.001, 0.01]} if sampler == "grid" else {LR: {"low": 1e-4, "high": 0.1}}
    content = build_spec(space=space, sampler=sampler, at_once=2, confirm={"count": 2, "seed": 9})
    if sampler == "tpe":
        content["trials"] = 6
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    longer = base | {"trainer.max_epochs": 20}
    start = time.monotonic()
    whole = started(longer | {"trainer.default_root_dir": tmp_path / "whole"}, file)
    assert whole.finish() == 0, whole.err
    seconds = time.monotonic() - start
    for part in (0.25, 0.4, 0.35):
        process = started(longer | {"trainer.default_root_dir": tmp_path / "killed"}, file)
        time.sleep(part * seconds)
        process.kill()
    last = started(longer | {"trainer.default_root_dir": tmp_path / "killed"}, file)
    assert last.finish() == 0, last.err
    folders = [tmp_path / name / "lightning_logs" / "fc_aux-sweep" for name in ("whole", "killed")]
    one, other = map(table, folders)
    if sampler == "grid":
        assert one == other
    assert len(other) == 6
    assert [row["n"] for row in other] == ["2"] * 6


@pytest.mark.slow
def test_several_processes_share_the_work(base: dict[str, object], tmp_path: Path) -> None:
    content = build_spec(space={ALPHA: [0.1, 0.2, 0.3, 0.5, 1.0], LR: [0.001, 0.01]}, at_once=2)
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    longer = base | {"trainer.max_epochs": 10}
    url = f"sqlite:///{tmp_path / 'study.db'}"
    processes = [started(longer, file, storage=url) for _ in range(3)]
    assert [process.finish() for process in processes] == [0, 0, 0], [process.err for process in processes]
    rows = table(tmp_path / "lightning_logs" / "fc_aux-sweep")
    assert len(rows) == 10
    study = optuna.load_study(study_name="fc_aux-sweep", storage=url)
    assert len(study.trials) == 10
    assert len({each.user_attrs["owner"] for each in study.trials}) > 1
    tables = ["\n".join(process.out.splitlines()[2:]) for process in processes]
    assert tables[0] == tables[1] == tables[2]


def test_without_optuna_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pairs_lit.commands.sweep", "pairs_lit.sweeps.study", "pairs_lit.sweeps.figures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "--config", "fc", "--sweep", "sweep.yaml"]) == 2
    assert "pairs-lit sweep needs Optuna: pip install 'pairs-lit[sweep]'" in capsys.readouterr().err


def test_sweep_with_too_few_rounds_warns_before_training() -> None:
    content = build_spec(space={ALPHA: [0.1, 0.2, 0.5, 1.0]}, rounds={"count": 6}, confirm={"count": 5, "seed": 100})
    assert describe_limits(read_spec(content)) == [
        "no trial can differ significantly from the best one: with 6 rounds and 3 comparisons the smallest possible p "
        "is 0.094; use at least 7 rounds (rounds.count).",
        "the confirmation cannot show a significant difference: with 5 rounds the smallest possible p is 0.062; use "
        "at least 6 rounds (confirm.count).",
    ]
    assert describe_limits(read_spec(content | {"rounds": {"count": 7}, "confirm": None})) == []
    assert describe_limits(read_spec(build_spec(space={ALPHA: [0.1]}))) == []
    several = build_spec(space={"data.train_pairs": [50, 100, 200, 400]}, rounds={"count": 6})
    assert describe_limits(read_spec(several)) == []  # unpaired trials need fewer rounds


def test_data_options_match_the_recorded_data_settings() -> None:
    recorded = {f"data.{field.name}" for field in fields(DataSettings)}
    derived = {"data.classes", "data.held_out", "data.fingerprint"}
    assert recorded - derived == DATA_OPTIONS - {"data.root"}


@pytest.mark.quick(1)
@pytest.mark.parametrize("count", [2])
def test_the_limit_is_shown_before_the_first_fit(
    count: int, base: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    swept(base, build_spec(rounds={"count": count}))
    err = capsys.readouterr().err
    limit = "with 2 rounds the smallest possible p is 0.500; use at least 6 rounds (rounds.count)."
    assert err.index(limit) < err.index("2 trials × 2 rounds")


def test_disagreeing_tests_count_as_tie_and_are_explained(tmp_path: Path) -> None:
    base = [0.87 + 0.001 * place for place in range(20)]
    better = [value + 0.004 + 0.0001 * place for place, value in enumerate(base)]
    better[4] = 0.55
    trials = [build_trial(0, *base), build_trial(1, *better)]
    result = Sweep(
        tmp_path, read_spec(build_spec(space={"a": [0, 1]})), rank_trials(trials, METRICS_BY_TAG["val/accuracy"]), None
    )
    assert [each.number for each in result.tied_with_best] == [0, 1]
    text = str(result)
    assert "The other trial does not differ significantly" in text
    assert "a 1 is better in most rounds (median +0.5 points, p < 0.001), but its mean is lower" in text


@pytest.mark.parametrize(
    ("tied", "others", "subject"),
    [(1, 1, "The other trial does"), (1, 2, "1 of 2 other trials does"), (2, 2, "2 of 2 other trials do")],
)
def test_number_of_tied_trials_is_a_subject_with_its_verb(tied: int, others: int, subject: str) -> None:
    assert _count_ties(tied, others) == subject


def test_failed_trials_are_not_reported_as_different(tmp_path: Path) -> None:
    trials = [build_trial(0, *(0.8 + 0.01 * place for place in range(8))), build_trial(1, failed=tuple(range(8)))]
    space = read_spec(build_spec(space={"a": [0, 1]}))
    text = str(Sweep(tmp_path, space, trials, None))
    assert "The other trial does not differ significantly from the best one" in text
    assert "a 1 (rounds failed)" in text
    assert "There is no other trial" in str(Sweep(tmp_path, space, trials[:1], None))


def test_a_notebook_shows_the_report(tmp_path: Path) -> None:
    trials = [build_trial(0, 0.8, 0.9), build_trial(1, 0.7, 0.6)]
    result = Sweep(tmp_path, read_spec(build_spec(space={"a": [0, 1]})), trials, None, ["<b>a note</b>"])
    texts = read_html(result._repr_html_())
    assert texts[1] == "<b>a note</b>"
    assert texts[texts.index("mean ± std") - 2 :][:2] == ["a", "n"]
    assert "0.8500 ± 0.0707" in texts
    assert [text for text in texts if text.startswith("Selected: a 0.")]


def test_round_options_equal_to_the_sweeps_are_accepted() -> None:
    result = read_spec(build_spec(rounds={"count": 3, "seed": 5}))
    check_sweep_options(["--rounds.count=3", "--rounds", "{seed: 5}"], result)
    with pytest.raises(PairsLitError, match=r"rounds\.count cannot be given to a sweep: rounds in the sweep file"):
        check_sweep_options(["--rounds.count", "4"], result)

"""A sweep's file is checked key by key."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pairs_lit import PairsLitError
from pairs_lit.cli import main
from pairs_lit.sweeps.spec import read_spec
from tests.support.sweeps import ALPHA, spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "sweep: the space is empty: name an option, model.loss.aux_weight"),
        ({"space": {ALPHA: []}}, "aux_weight is \\[\\]: give a list of values, or {low: …, high: …}"),
        ({"space": {ALPHA: 0.5}}, "aux_weight is 0.5: give a list of values"),
        ({"space": {ALPHA: [0.5, 0.5]}}, "aux_weight: a value stands twice"),
        ({"space": {ALPHA: [1, 1.0]}}, r"aux_weight: a value stands twice \(1 and 1.0\): keep one of them"),
        ({"space": {ALPHA: [[1, 2], [1.0, 2]]}}, "aux_weight: a value stands twice"),
        ({"space": {ALPHA: [float("nan")]}}, "aux_weight must hold text, finite numbers, .* got nan. Put a date"),
        ({"space": {ALPHA: [date(2020, 1, 1)]}}, "aux_weight must hold text, finite numbers"),
        ({"space": {ALPHA: {"low": 2, "high": 2}}}, "low is 2 and high 2: low must be the smaller one"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "steps": 5}}}, "steps must be at most 2, .* got 5. Write 0.0 and 1.0"),
        ({"space": {ALPHA: {"low": 1, "high": 0.1}}}, "low is 1 and high 0.1: low must be the smaller one"),
        ({"space": {ALPHA: {"low": "a", "high": 1}}}, "low is 'a' and high 1: they must be numbers"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "log": True}}}, "low is 0: with log it must be above 0"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "log": 3}}}, "log is 3: it must be true or false"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "steps": 0}}}, "steps is 0: it must be 1 or more"),
        ({"space": {ALPHA: {"low": 0, "high": 1}}}, "a grid needs values, or a range with steps"),
        ({"space": {"rounds.count": [1, 2]}}, "rounds.count cannot be varied: the sweep's own rounds"),
        ({"space": {"name": ["a", "b"]}}, "name cannot be varied: all trials belong to one sweep"),
        ({"space": {"data": [{"watch_test": True}]}}, r"space.data cannot be varied: name an option in it"),
        ({"space": {"trainer.devices": [1, 2]}}, "devices cannot be varied: it changes nothing that a trial computes"),
        ({"space": {"trainer.enable_progress_bar": [True]}}, "cannot be varied: a sweep has one bar for all trials"),
        ({"space": {"data.watch_test": [True]}}, "watch_test cannot be varied: the search leaves the test pairs alone"),
        (
            {"space": {ALPHA: {"low": 0.0, "high": 1.0, "steps": 10001}}},
            "the space has 10001 combinations, at most 10000",
        ),
        ({"metric": "test/accuracy"}, "metric is test/accuracy, but nothing is selected on the test set"),
        ({"metric": "val/f1"}, "metric is val/f1: use one of val/accuracy"),
        ({"sampler": "bayes"}, "sampler: expected one of grid, random, tpe, got 'bayes'"),
        ({"sampler": "random"}, "sampler is random: say how many values it tries"),
        ({"sampler": "tpe"}, "sampler is tpe: say how many values it tries"),
        ({"trials": 3}, "trials is 3, but a grid tries every combination"),
        ({"sampler": "random", "trials": 0}, "trials must be 1 or more, got 0"),
        ({"at_once": 0}, "at_once must be 1 or more, got 0"),
        ({"seed": -1}, "seed is -1: it must be 0 or more"),
        ({"rounds": {"count": 0}}, "rounds.count must be 1 or more, got 0"),
        ({"rounds": {"count": "3"}}, "rounds.count: expected a whole number, got '3'"),
        ({"rounds": {"size": 3}}, "rounds.size: there is no such key"),
        ({"confirm": {"count": 1, "seed": 100}}, "confirm.count is 1: a difference needs 2 rounds or more"),
        ({"confirm": {"count": 5, "seed": 1}}, "rounds and confirm share the seeds 1 to 1: .* set confirm.seed to 2"),
        ({"prune": True}, "prune: there is no such key, use space, metric, sampler"),
    ],
)
def test_a_sweeps_file_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        read_spec(spec(**changes)).points()


def test_a_file_that_is_not_there_or_holds_a_key_twice_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, twice = tmp_path / "no.yaml", tmp_path / "twice.yaml"
    twice.write_text("space: {a: [1]}\nspace: {b: [1]}\n")
    for file, message in {missing: "cannot be read", twice: "is given twice, in lines 1 and 2"}.items():
        assert main(["sweep", "--config", "fc_aux", "--sweep", str(file)]) == 2
        assert message in capsys.readouterr().err
    assert main(["sweep", "--sweep", str(missing)]) == 2
    assert "required: --config (pairs-lit sweep --help lists the options)" in capsys.readouterr().err

"""Validation of sweep files."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pairs_lit import PairsLitError
from pairs_lit.cli import main
from pairs_lit.sweeps.spec import read_spec
from tests.support.sweeps import ALPHA, build_spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "sweep: space must name at least one option. Add one, such as model.loss.aux_weight"),
        ({"space": {ALPHA: []}}, r"aux_weight must be a list of values, or {low: …, high: …} .*, got \[\]"),
        ({"space": {ALPHA: 0.5}}, "aux_weight must be a list of values, .*, got 0.5"),
        ({"space": {ALPHA: [0.5, 0.5]}}, "aux_weight has a value twice"),
        ({"space": {ALPHA: [1, 1.0]}}, r"aux_weight has a value twice \(1 and 1.0\)\. Keep one of them"),
        ({"space": {ALPHA: [[1, 2], [1.0, 2]]}}, "aux_weight has a value twice"),
        ({"space": {ALPHA: [float("nan")]}}, "aux_weight must hold text, finite numbers, .* got nan. Put a date"),
        ({"space": {ALPHA: [date(2020, 1, 1)]}}, "aux_weight must hold text, finite numbers"),
        ({"space": {ALPHA: {"low": 2, "high": 2}}}, "low must be smaller than high, and both finite, got 2 and 2"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "steps": 5}}}, "steps must be at most 2, .* got 5. Write 0.0 and 1.0"),
        ({"space": {ALPHA: {"low": 1, "high": 0.1}}}, "low must be smaller than high, and both finite, got 1 and 0.1"),
        ({"space": {ALPHA: {"low": "a", "high": 1}}}, "low and high must be numbers, got 'a' and 1"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "log": True}}}, "low must be above 0 with log, got 0"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "log": 3}}}, "log must be true or false, got 3"),
        ({"space": {ALPHA: {"low": 0, "high": 1, "steps": 0}}}, "steps must be 1 or more, got 0"),
        ({"space": {ALPHA: {"low": 0, "high": 1}}}, "a grid needs a list of values or a range with steps"),
        ({"space": {"rounds.count": [1, 2]}}, "rounds.count cannot be varied: rounds in the sweep file sets"),
        ({"space": {"name": ["a", "b"]}}, "name cannot be varied: all trials share the sweep's name"),
        ({"space": {"data": [{"watch_test": True}]}}, r"space.data cannot be varied: vary one of its options"),
        ({"space": {"trainer.devices": [1, 2]}}, "devices cannot be varied: it does not change the results of a trial"),
        ({"space": {"trainer.enable_progress_bar": [True]}}, "cannot be varied: a sweep has one progress bar"),
        ({"space": {"data.watch_test": [True]}}, "watch_test cannot be varied: the search never uses the test pairs"),
        (
            {"space": {ALPHA: {"low": 0.0, "high": 1.0, "steps": 10001}}},
            "a grid must have at most 10000 combinations, got 10001",
        ),
        ({"metric": "test/accuracy"}, "metric must not be measured on the test set, got test/accuracy"),
        ({"metric": "val/f1"}, "metric must be one of val/accuracy, .*, got val/f1"),
        ({"sampler": "bayes"}, "sampler: expected one of grid, random, tpe, got 'bayes'"),
        ({"sampler": "random"}, "sampler random needs the number of trials"),
        ({"sampler": "tpe"}, "sampler tpe needs the number of trials"),
        ({"trials": 3}, "trials must not be set for a grid, .*, got 3"),
        ({"sampler": "random", "trials": 0}, "trials must be 1 or more, got 0"),
        ({"at_once": 0}, "at_once must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"rounds": {"count": 0}}, "rounds.count must be 1 or more, got 0"),
        ({"rounds": {"count": "3"}}, "rounds.count: expected a whole number, got '3'"),
        ({"rounds": {"size": 3}}, "rounds.size: there is no such key"),
        ({"confirm": {"count": 1, "seed": 100}}, "confirm.count must be 2 or more to test a difference, got 1"),
        (
            {"confirm": {"count": 5, "seed": 1}},
            "confirm must use other seeds than rounds, got 1 to 1 in both. Set confirm.seed to 2",
        ),
        ({"prune": True}, "prune: there is no such key, use space, metric, sampler"),
    ],
)
def test_a_sweeps_file_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        read_spec(build_spec(**changes)).list_points()


def test_missing_file_and_duplicate_key_give_one_line_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, twice = tmp_path / "no.yaml", tmp_path / "twice.yaml"
    twice.write_text("space: {a: [1]}\nspace: {b: [1]}\n")
    for file, message in {missing: "cannot be read", twice: "is given twice, in lines 1 and 2"}.items():
        assert main(["sweep", "--config", "fc_aux", "--sweep", str(file)]) == 2
        assert message in capsys.readouterr().err
    assert main(["sweep", "--sweep", str(missing)]) == 2
    assert "required: --config (pairs-lit sweep --help lists the options)" in capsys.readouterr().err

from pathlib import Path

import pytest

from pairs_lit.cli import main
from tests.conftest import Fit
from tests.support.runs import run_rejected


class TestCompareOfManyRuns:
    def test_unfinished_run_is_skipped_with_a_notice(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        first, second, third = (fit(config="fc_aux") for _ in range(3))
        (third / "summary.json").unlink()
        capsys.readouterr()
        assert main(["compare", str(first), str(second), str(third)]) == 0
        captured = capsys.readouterr()
        assert f"skipped (not finished runs): {third}." in captured.err
        assert first.name in captured.out
        assert third.name not in captured.out

    def test_stray_files_are_skipped(self, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run, other = fit(config="fc_aux"), fit(config="fc_aux")
        (tmp_path / "notes.txt").write_text("mine")
        (other / "rounds.csv").unlink()
        assert main(["compare", str(run), str(tmp_path / "notes.txt"), str(other)]) == 0
        assert f"skipped (not finished runs): {tmp_path / 'notes.txt'}, {other}." in capsys.readouterr().err

    def test_no_finished_run_is_an_error(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        run = fit(config="fc_aux")
        (run / "summary.json").unlink()
        assert "is not a finished run (summary.json is missing)" in run_rejected(["compare", str(run)], capsys)

    def test_a_folder_of_runs_names_the_latest_one(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        run = fit(config="fc_aux")
        for folder in (run.parent, run.parent.parent):
            assert f"{folder} is not a finished run" in (said := run_rejected(["compare", str(folder)], capsys))
            assert said.endswith(f"Give a run folder such as {run}.")

    def test_a_folder_that_does_not_exist_is_an_error(self, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nowhere is not a finished run" in run_rejected(
            ["compare", str(fit(config="fc_aux")), "nowhere"], capsys
        )

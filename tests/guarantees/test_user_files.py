import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.runs.tables import read_curves
from tests.conftest import CONFIGS, Fit
from tests.support.runs import build_checkpoint_arguments, read_contents, read_tables, run_rejected

CALLBACKS = "lightning.pytorch.callbacks"


class TestUserFilesAreNotOverwritten:
    @pytest.fixture
    def project(self, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A user folder with files named like those of a run, and copies of a checkpoint."""
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
    def test_checkpoint_outside_its_run_folder_gets_a_new_run(
        self, command: str, checkpoint: str, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = read_contents(project)
        options = ["--trainer.default_root_dir", ".", "--ckpt_path", checkpoint]
        assert main([command, "--config", "../fc_aux.yaml", *options]) == 0
        after = read_contents(project)
        assert {path: after[path] for path in before} == before
        (run,) = project.glob("lightning_logs/fc_aux/*")
        assert {path for path in after if path not in before} == {path for path in after if run in path.parents}
        assert f"{checkpoint} is not in the folder of the run that wrote it, so the results go into a new run" in (
            capsys.readouterr().err
        )
        names = {"fit": "rounds.csv", "test": "test.csv", "validate": "validate.csv", "predict": "predictions.csv"}
        assert (run / names[command]).is_file()

    @pytest.mark.slow
    def test_checkpoint_in_another_run_folder_leaves_that_run_unchanged(self, fit: Fit) -> None:
        first, second = fit(config="fc_aux"), fit("--rounds.seed", "7", config="fc_aux")
        shutil.copy(first / "checkpoints" / "last.ckpt", second / "checkpoints" / "other.ckpt")
        before = read_contents(second)
        config = str(first / "config.yaml")
        assert main(["test", "--config", config, "--ckpt_path", str(second / "checkpoints" / "other.ckpt")]) == 0
        assert read_contents(second) == before

    def test_moved_run_is_resumed_in_place(self, fit: Fit, tmp_path: Path) -> None:
        moved = tmp_path / "the best one"
        fit(config="fc_aux").rename(moved)
        assert main(["test", *build_checkpoint_arguments(moved)]) == 0
        assert main(["fit", *build_checkpoint_arguments(moved), "--trainer.max_epochs", "3"]) == 0
        assert (moved / "test.csv").is_file()
        assert read_curves(moved / "curves.csv").epochs == 3

    def test_run_of_an_earlier_release_is_resumed_in_place(self, fit: Fit) -> None:
        run = fit(config="fc_aux")
        checkpoint = run / "checkpoints" / "last.ckpt"
        saved = read_checkpoint(checkpoint)
        del saved["pairs_lit"]["run"]
        torch.save(saved, checkpoint)
        (run / ".run").unlink()
        assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "3"]) == 0
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
        before = read_tables(run)
        assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "3"]) == 0
        assert not (tmp_path / "checkpoints").exists()
        assert read_tables(run) != before

    def test_the_monitored_metric_is_the_mean_over_rounds(self, fit: Fit) -> None:
        options = f"--trainer.callbacks {CALLBACKS}.ModelCheckpoint --trainer.callbacks.monitor val/loss/mean".split()
        run = fit(*options, "--trainer.max_epochs", "3")
        best = next(path for path in (run / "checkpoints").iterdir() if path.name.startswith("epoch"))
        (state,) = (
            value for name, value in read_checkpoint(best)["callbacks"].items() if name.startswith("ModelCheckpoint")
        )
        means = read_curves(run / "curves.csv").values["val/loss"].mean(1)
        assert float(state["best_model_score"]) == pytest.approx(means.min(), rel=1e-5)

    def test_resuming_an_early_checkpoint_does_not_overwrite_the_run(
        self, fit: Fit, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
        run = fit(*options, "--trainer.max_epochs", "4", config="fc_aux")
        before = read_contents(run)
        (early,) = (run / "checkpoints").glob("epoch=1-*")
        arguments = ["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(early)]
        for rate in ("0.1", "0.2"):
            assert main([*arguments, "--model.optimizer.lr", rate]) == 0
        assert read_contents(run) == before
        assert capsys.readouterr().err.count("is not the latest of its run, so the results go into a new") == 2
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

    def test_run_with_damaged_last_checkpoint_is_resumed_from_an_earlier_one(self, fit: Fit) -> None:
        options = ["--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
        run = fit(*options, "--trainer.max_epochs", "3", config="fc_aux")
        before = read_tables(run)
        (run / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
        (early,) = (run / "checkpoints").glob("epoch=1-*")
        assert main(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(early)]) == 0
        assert read_tables(run) == before

    @pytest.mark.parametrize("how", ["moved", "linked", "relative"])
    @pytest.mark.quick(1)
    def test_model_checkpoint_keeps_its_best_score_when_resumed(
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
        assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "4"]) == 0
        assert (
            len(list((run / "checkpoints").glob("epoch*.ckpt"))) == 1
        )  # the previous best checkpoint was either replaced or kept
        state = read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]
        (kept,) = (value for name, value in state.items() if name.startswith("ModelCheckpoint"))
        losses = read_curves(run / "curves.csv").values["val/loss"]
        assert float(kept["best_model_score"]) == pytest.approx(
            (losses.mean(1) - losses.std(1, ddof=1)).min(), rel=1e-5
        )
        assert Path(kept["best_model_path"]).is_file()

    @pytest.mark.slow
    def test_save_last_with_top_k_zero_works(self, fit: Fit) -> None:
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
            ("--trainer.callbacks.filename last", "filename last is reserved for the run"),
            (
                "--rounds.count 1 --trainer.callbacks.monitor val/loss/low",
                "monitor is val/loss/low, which is not available. Use one of val/loss/m",
            ),
            ("--trainer.callbacks.monitor test/accuracy/mean", "may be selected on the test set. Use val/accuracy"),
            ("--trainer.callbacks.monitor val_loss", "monitor is val_loss, .* Use one of val/loss/mean, "),
            ("--trainer.callbacks.monitor val/accuracy", "monitor is val/accuracy, .* Use .*val/accuracy/mean"),
            (
                "--trainer.callbacks.every_n_train_steps 5",
                "every_n_train_steps cannot be set, since a run can only be resumed from",
            ),
            ("--trainer.callbacks.save_weights_only true", "save_weights_only cannot be set"),
            ("--trainer.callbacks.save_on_exception true", "save_on_exception cannot be set"),
            ("--trainer.callbacks.save_on_train_epoch_end false", "save_on_train_epoch_end cannot be set"),
        ],
    )
    @pytest.mark.quick(2)
    def test_unusable_model_checkpoint_options_are_rejected(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks", f"{CALLBACKS}.ModelCheckpoint"]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        assert re.search(message, run_rejected(arguments, capsys))
        assert not list(tmp_path.iterdir())

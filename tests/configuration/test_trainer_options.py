import re
from pathlib import Path

import pytest

from pairs_lit.cli import main
from tests.conftest import CONFIGS, Fit
from tests.support.runs import build_checkpoint_arguments, run_process, run_rejected

PARTS = "tests.support.real_world_parts"


CALLBACKS = "lightning.pytorch.callbacks"


class TestTrainerOptions:
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
        done = run_process("fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, *root, *options.split())
        assert done.returncode == 0
        assert all(each in (done.stdout + done.stderr).decode() for each in expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--trainer.precision 16-mixed", "trainer.precision is 16-mixed, .*Use bf16-mixed"),
            ("--trainer.precision 16", "trainer.precision is 16, .*Use bf16-mixed"),
            ("--trainer.min_epochs 9", "trainer.min_epochs is 9, more than trainer.max_epochs, 2"),
            ("--trainer.min_epochs -1", "trainer.min_epochs must be 1 or more, got -1"),
            ("--trainer.val_check_interval 1", "trainer.val_check_interval must be 1.0, got 1"),
            ("--trainer.val_check_interval 00:00:10:00", "trainer.val_check_interval must be 1.0, got"),
            ("--trainer.limit_train_batches 1", "trainer.limit_train_batches is 1, which may mean one batch or all"),
            (
                "--trainer.gradient_clip_val -1 --trainer.gradient_clip_algorithm value",
                "gradient_clip_val must be 0 or more, got -1",
            ),
            ("--trainer.profiler xla", "trainer.profiler is xla, which needs a TPU"),
            ("--trainer.profiler lightning.pytorch.profilers.SimpleProfiler --trainer.profiler.filename x", "dirpath"),
            (f"--trainer.callbacks {CALLBACKS}.Timer", "the callback Timer would couple rounds or end them early"),
            (f"--trainer.callbacks {CALLBACKS}.spike.SpikeDetection", "callback SpikeDetection would couple rounds"),
            (f"--model.head {PARTS}.GivesTwo", "the head GivesTwo must return one tensor, but returned something else"),
            ("--trainer.sync_batchnorm true", "trainer.sync_batchnorm must be False, got True"),
            ("--trainer.model_registry mine", "trainer.model_registry must be None, got mine"),
            ("--trainer.enable_checkpointing false", "trainer.enable_checkpointing must be True, .*last.ckpt"),
            ("--trainer.barebones true", "trainer.barebones must be False, got True: it would leave out"),
            ("--seed_everything 42", "seed_everything must be left out, got 42. .*set rounds.seed"),
            ("--seed_everything true", "seed_everything must be left out, got true. .*set rounds.seed"),
        ],
    )
    @pytest.mark.quick(6)
    def test_unsupported_option_is_rejected_by_name(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path)]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        error = run_rejected(arguments, capsys)
        assert re.search(message, error)
        assert "ModelCheckpoint" not in error
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
        assert main(["test", *build_checkpoint_arguments(run)]) == 0

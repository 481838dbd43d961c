"""Shared studies: claimed, released and abandoned trials, and extended sweeps; only the last tests train."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningModule, Trainer

import pairs_lit
from pairs_lit import PairsLitError
from pairs_lit.cli import main
from pairs_lit.sweeps import process_locks
from pairs_lit.sweeps import search as sweep_module
from pairs_lit.sweeps import study as study_module
from pairs_lit.sweeps.spec import read_spec
from pairs_lit.sweeps.study import ClaimedTrial, Study
from pairs_lit.sweeps.sweep_options import check_sweep_options
from pairs_lit.sweeps.trial import Trial
from tests.support.sweeps import ALPHA, LR, build_spec

OPTIONS: dict[str, object] = {"data.batch_size": 16, "model.optimizer": "Adam"}
PRODUCTS = ("[0-9][0-9][0-9][0-9]", "report.md", "sweep.yaml")


@pytest.fixture(params=["journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "journal" else f"sqlite:///{tmp_path / 'study.db'}"


def opened(folder: Path, content: dict[str, Any], storage: str | None = None, **options: object) -> Study:
    return Study(folder / "s", "s", read_spec(content), OPTIONS | options, PRODUCTS, storage)


def tell(study: Study, taken: list[ClaimedTrial], folder: Path) -> None:
    for each in taken:
        scores = {0: 0.5 + each.number / 100, 1: 0.6}
        study.report_result(
            Trial(each.number, each.values, scores, [], folder / f"{each.number:04d}", {"source": "mnist"})
        )


def finish(study: Study, folder: Path) -> list[int]:
    """Finish all trials; return the numbers of those that this call finished."""
    numbers = []
    while not study.is_over:
        taken = study.claim_trials()
        assert taken
        numbers += [each.number for each in taken]
        tell(study, taken, folder)
    return numbers


def test_claimed_trials_are_released_at_exit(storage: str | None, tmp_path: Path) -> None:
    with opened(tmp_path, build_spec(at_once=1), storage) as study:
        taken = study.claim_trials()
    with opened(tmp_path, build_spec(at_once=1), storage) as study:
        assert study.claim_trials() == taken == [ClaimedTrial(0, {ALPHA: 0.1})]
        tell(study, taken, tmp_path)
        last = study.claim_trials()
        assert last == [ClaimedTrial(1, {ALPHA: 1.0})]
        tell(study, last, tmp_path)
    assert sorted(path.name for path in (tmp_path / "s").iterdir() if path.name != "study.log") == [".lock", ".study"]


def test_trials_of_a_running_process_are_not_claimed(storage: str | None, tmp_path: Path) -> None:
    with opened(tmp_path, build_spec(), storage) as one, opened(tmp_path, build_spec(), storage) as other:
        assert len(one.claim_trials()) == 2
        assert other.claim_trials() == []
        assert not other.is_over


KILLED = """
import os, signal, sys
from pathlib import Path
from pairs_lit.sweeps.spec import read_spec
from pairs_lit.sweeps.study import Study
study = Study(Path({folder!r}), "s", read_spec({content!r}), {options!r}, (), None)
print(len(study.claim_trials()), flush=True)
if "{how}" == "HUP":  # ignored if the tests were started by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIG{how})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["KILL", pytest.param("HUP", marks=pytest.mark.slow)])
def test_trials_of_a_killed_process_are_claimed_at_once(how: str, tmp_path: Path) -> None:
    code = KILLED.format(folder=str(tmp_path / "s"), content=build_spec(), options=OPTIONS, how=how)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert killed.returncode == -getattr(signal, f"SIG{how}"), killed.stderr
    assert killed.stdout == "2\n"
    with opened(tmp_path, build_spec()) as study:
        assert len(study.claim_trials()) == 2
        assert study.claim_trials() == []
        tell(study, [ClaimedTrial(0, {ALPHA: 0.1}), ClaimedTrial(1, {ALPHA: 1.0})], tmp_path)
    assert not (tmp_path / "s" / ".working").exists()


def test_trials_of_another_machine_are_claimed_after_the_timeout(
    storage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "elsewhere")
        elsewhere.setattr(process_locks, "get_boot_id", lambda: "another")
        far = opened(tmp_path, build_spec(), storage)
        assert len(far.claim_trials()) == 2
        far._worker.release(is_released=False)  # as if it had been killed
        far._close_storage()
    with opened(tmp_path, build_spec(), storage) as study:
        assert study.claim_trials() == []
        monkeypatch.setattr(study_module, "_HEARTBEAT_TIMEOUT", 0.0)
        assert len(study.claim_trials()) == 2


def test_trials_of_a_dead_container_process_are_claimed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_locks, "get_boot_id", lambda: "same")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "container")
        far = opened(tmp_path, build_spec())
        far.claim_trials()
        far._worker.release(is_released=False)
    with opened(tmp_path, build_spec()) as study:
        assert len(study.claim_trials()) == 2


def test_full_disk_does_not_block_trials_for_the_next_process(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path, build_spec()) as study:
        study.claim_trials()
        study._study._storage._backend.append_logs = fail  # type: ignore[attr-defined]
    with opened(tmp_path, build_spec()) as study:
        assert len(study.claim_trials()) == 2


def test_unfinished_journal_line_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path, build_spec()) as study:
        tell(study, study.claim_trials()[:1], tmp_path)
    journal = tmp_path / "s" / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":8,"wor')
    with opened(tmp_path, build_spec()) as study:
        assert finish(study, tmp_path) == [1]
    assert journal.read_bytes().startswith(whole)
    journal.write_bytes(b"no json\n" + whole)
    with pytest.raises(PairsLitError, match=r"study\.log cannot be used as the sweep's storage: JSONDecodeError"):
        opened(tmp_path, build_spec())


def test_more_values_train_only_the_new_ones(storage: str | None, tmp_path: Path) -> None:
    with opened(tmp_path, build_spec(), storage) as study:
        assert finish(study, tmp_path) == [0, 1]
        assert study.describe_history() == []
    more = build_spec(space={ALPHA: [0.05, 0.1, 1, 2.0]})
    for new in ([2, 3], []):
        with opened(tmp_path, more, storage) as study:
            assert finish(study, tmp_path) == new
            assert study.describe_history() == ["The sweep was extended: 2 trials from before, 2 new."]
            assert {trial.values[ALPHA]: trial.number for trial in study.list_finished_trials()} == {
                0.1: 0,
                1: 1,
                0.05: 2,
                2.0: 3,
            }
            assert len(study.copy_trials(study.list_finished_trials()).trials) == 4


def test_texts_and_lists_can_be_added(storage: str | None, tmp_path: Path) -> None:
    option = "model.backbone.init_args.widths"
    with opened(tmp_path, build_spec(space={option: [[8, 10], "a"]}), storage) as study:
        assert finish(study, tmp_path) == [0, 1]
    with opened(tmp_path, build_spec(space={option: ["b", [8, 10], "a", True, 1, None]}), storage) as study:
        assert finish(study, tmp_path) == [2, 3, 4, 5]
        values = [trial.values[option] for trial in study.list_finished_trials()]
        assert [repr(value) for value in values] == ["[8, 10]", "'a'", "'b'", "True", "1", "None"]
        assert len(study.copy_trials(study.list_finished_trials()).trials) == 6


def test_a_finer_grid_keeps_the_coarse_one(tmp_path: Path) -> None:
    def searched(steps: int) -> dict[str, Any]:
        return build_spec(space={LR: {"low": 1e-4, "high": 1e-2, "log": True, "steps": steps}})

    with opened(tmp_path, searched(3)) as study:
        finish(study, tmp_path)
    with opened(tmp_path, searched(5)) as study:
        assert finish(study, tmp_path) == [3, 4]
    with pytest.raises(PairsLitError, match=f"space.{LR} held 0.000316.*give --name for a new sweep"):
        opened(tmp_path, searched(3))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_more_trials_and_a_wider_range(sampler: str, storage: str | None, tmp_path: Path) -> None:
    def searched(high: float, trials: int) -> dict[str, Any]:
        return build_spec(space={ALPHA: {"low": 0.1, "high": high}}, sampler=sampler, trials=trials, at_once=2)

    values = dict[int, float]()
    for high, trials, new in ((1.0, 3, [0, 1, 2]), (1.0, 5, [3, 4]), (99.0, 5, []), (99.0, 9, [5, 6, 7, 8])):
        with opened(tmp_path, searched(high, trials), storage) as study:
            assert finish(study, tmp_path) == new
            values = {trial.number: trial.values[ALPHA] for trial in study.list_finished_trials()}
    assert len(set(values.values())) == 9
    assert all(values[number] <= 1 for number in range(5))
    assert any(values[number] > 1 for number in range(5, 9))
    with pytest.raises(PairsLitError, match=r"held 0\.1 to 99"):
        opened(tmp_path, searched(2.0, 9), storage)
    with pytest.raises(PairsLitError, match="trials was 9"):
        opened(tmp_path, searched(99.0, 4), storage)


def test_random_values_are_the_same_with_more_trials(tmp_path: Path) -> None:
    def searched(trials: int) -> dict[str, Any]:
        return build_spec(space={ALPHA: {"low": 0.1, "high": 1.0}}, sampler="random", trials=trials)

    with opened(tmp_path, searched(2)) as study:
        finish(study, tmp_path)
    with opened(tmp_path, searched(6)) as study:
        finish(study, tmp_path)
        values = [trial.values for trial in study.list_finished_trials()]
    assert values == read_spec(searched(6)).list_points()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": {"count": 3}}, r"rounds.count was 2 and is 3"),
        ({"rounds": {"count": 2, "seed": 1}}, r"rounds.seed was 0 and is 1"),
        ({"metric": "val/digit_accuracy"}, r"metric was val/accuracy and is val/digit_accuracy"),
        ({"sampler": "random", "trials": 2}, r"sampler was grid and is random"),
        ({"space": {ALPHA: [0.1, 2.0]}}, rf"space.{ALPHA} held 1"),
        ({"space": {ALPHA: [0.1, 1.0], LR: [0.1]}}, rf"space.{LR} was not varied"),
        ({"space": {LR: [0.1]}}, rf"space.{ALPHA} was varied; space.{LR} was not varied"),
    ],
)
def test_other_settings_cannot_change(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with opened(tmp_path, build_spec()) as study:
        tell(study, study.claim_trials(), tmp_path)
    with pytest.raises(
        PairsLitError, match=f"the study s belongs to a sweep with other settings: {message}.*give --name"
    ):
        opened(tmp_path, build_spec(**changes))
    assert not (tmp_path / "s" / ".working").exists()


def test_another_config_is_rejected_with_what_differs(tmp_path: Path) -> None:
    with opened(tmp_path, build_spec(confirm={"count": 2, "seed": 9}, at_once=1)):
        pass
    with opened(tmp_path, build_spec()):  # these options do not change the results
        pass
    with pytest.raises(PairsLitError, match=r"data.batch_size was 16 and is 20. Only values and trials can be added"):
        opened(tmp_path, build_spec(), **{"data.batch_size": 20})


def test_an_older_process_ends_with_its_own_trials(tmp_path: Path) -> None:
    more = build_spec(space={ALPHA: [0.1, 1.0, 2.0]})
    with opened(tmp_path, build_spec()) as old, opened(tmp_path, more) as new:
        taken = old.claim_trials()
        assert [each.values[ALPHA] for each in new.claim_trials()] == [2.0]
        tell(old, taken, tmp_path)
        assert old.is_over
        assert (old.is_latest, new.is_latest) == (False, True)
        assert len(old.list_finished_trials()) == 2


def test_untrainable_trial_is_retried_by_the_next_call(storage: str | None, tmp_path: Path) -> None:
    with opened(tmp_path, build_spec(), storage) as study:
        first, second = study.claim_trials()
        study.report_failure(first, "aux_weight 0.1: too small.")
        tell(study, [second], tmp_path)
        assert study.is_over
        assert study.describe_history() == ["Trial 0 could not be trained: aux_weight 0.1: too small."]
    with opened(tmp_path, build_spec(), storage) as study:
        assert finish(study, tmp_path) == [2]
        assert study.describe_history() == []


def test_foreign_files_are_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "report.md").write_text("mine")
    with pytest.raises(PairsLitError, match=r"must be empty or hold this sweep, got a folder with report.md"):
        opened(tmp_path, build_spec())
    assert [path.name for path in folder.iterdir()] == ["report.md"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lists the open files of a process")
def test_the_database_is_closed_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    file = tmp_path / "study.db"

    def is_open() -> bool:
        return file in [link.resolve() for link in Path("/proc/self/fd").iterdir()]

    with opened(tmp_path, build_spec(), f"sqlite:///{file}"):
        assert is_open()
    assert not is_open()
    (tmp_path / "other" / "s").mkdir(parents=True)
    (tmp_path / "other" / "s" / "report.md").write_text("mine")
    with pytest.raises(PairsLitError, match="must be empty or hold this sweep") as error:
        opened(tmp_path / "other", build_spec(), f"sqlite:///{file}")
    assert error.tb is not None  # its traceback keeps the study
    assert not is_open()


def test_another_study_does_not_write_into_the_folder(tmp_path: Path) -> None:
    with opened(tmp_path, build_spec()) as study:
        finish(study, tmp_path)
    (tmp_path / "s" / "0000").mkdir()
    with pytest.raises(PairsLitError, match=r"got a folder with 0000.*or the --storage that was used before"):
        opened(tmp_path, build_spec(), f"sqlite:///{tmp_path / 'other.db'}")
    with opened(tmp_path, build_spec()) as study:
        assert study.is_over


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--rounds.count", "5"], "rounds.count cannot be given to a sweep: rounds in the sweep file sets the seeds"),
        (["--rounds.seed=5"], "rounds.seed cannot be given to a sweep: .*change it there"),
        (["--rounds", "{count: 5}"], "rounds.count cannot be given"),
        (
            ["--data.watch_test=true"],
            "data.watch_test cannot be given to a sweep: the search never uses the test pairs",
        ),
        (["--data={watch_test: end}"], "data.watch_test cannot be given"),
        (["--name", "x"], "name cannot be given to a sweep: all trials share the sweep's name"),
        (["--ckpt_path", "x"], "ckpt_path cannot be given to a sweep: each trial starts from scratch"),
        (["--print_stack=true"], "print_stack cannot be given to a sweep: .*use pairs-lit fit"),
    ],
)
def test_options_that_a_sweep_would_ignore_are_rejected(args: list[str], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        check_sweep_options(args, read_spec(build_spec()))


def test_other_options_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "--rounds.stack_size=2",
        "--rounds",
        "{threads: 1}",
        "--data.train_pairs",
        "40",
        "--trainer={max_epochs: 3}",
    ]
    check_sweep_options(args, read_spec(build_spec()))
    check_sweep_options(
        [f"--{ALPHA}=0.3"], read_spec(build_spec(confirm={"count": 2, "seed": 9}))
    )  # the baseline uses this value
    assert capsys.readouterr().err == ""
    check_sweep_options([f"--{ALPHA}=0.3"], read_spec(build_spec()))
    assert f"{ALPHA} is varied: the sweep file's values are used" in capsys.readouterr().err


def trained(folder: Path) -> dict[str, int]:
    """Return the time at which each run folder of a sweep was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("summary.json")}


@pytest.mark.parametrize(
    "error", [MemoryError(), pytest.param(OSError(28, "No space left on device"), marks=pytest.mark.slow)]
)
def test_fit_error_names_the_trials_and_rerunning_resumes(
    error: Exception, base: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs, base = [], base | {"trainer.max_epochs": 3}

    class Failing(sweep_module._EpochCounter):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            epochs.append(trainer.current_epoch)
            if len(epochs) == 2:
                raise error

    monkeypatch.setattr(sweep_module, "_EpochCounter", Failing)
    with pytest.raises(type(error)):
        pairs_lit.sweep("fc_aux", build_spec(), base)
    assert f'an error ended the fit of 2 trials ({{"{ALPHA}": 0.1}}; {{"{ALPHA}": 1.0}})' in capsys.readouterr().err
    result = pairs_lit.sweep("fc_aux", build_spec(), base)
    assert len(result.trials) == 2
    assert epochs == [0, 1, 1, 2]  # epoch 0 is not trained again
    assert "waiting" not in capsys.readouterr().err
    assert {path.name for path in result.folder.glob(".*")} == {".lock", ".study"}


@pytest.mark.slow
def test_an_extended_sweep_says_so_and_trains_only_the_new_values(
    base: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    first = pairs_lit.sweep("fc_aux", build_spec(), base)
    before = trained(first.folder)
    more = build_spec(space={ALPHA: [0.1, 0.3, 1.0]}, confirm={"count": 2, "seed": 9})
    result = pairs_lit.sweep("fc_aux", more, base)
    after = trained(result.folder)
    assert after.keys() - before.keys() >= {"0002", "confirmed-best"}
    assert all(after[name] == before[name] for name in before)
    assert "The sweep was extended: 2 trials from before, 1 new." in str(result)
    assert "2 of 3 trials already finished" in capsys.readouterr().err
    assert str(pairs_lit.sweep("fc_aux", more, base)) == str(result)
    assert trained(result.folder) == after


@pytest.mark.slow
def test_an_extended_sweep_confirms_its_new_winner(base: dict[str, object]) -> None:
    confirm = {"count": 2, "seed": 9}
    pairs_lit.sweep("fc_aux", build_spec(space={LR: [1e-9]}, confirm=confirm), base)
    result = pairs_lit.sweep(
        "fc_aux", build_spec(space={LR: [1e-9, 0.03]}, confirm=confirm, metric="val/accuracy"), base
    )
    assert result.confirmed is not None
    assert result.confirmed.winner.config["model"]["optimizer"]["init_args"]["lr"] == result.best.values[LR]


@pytest.mark.slow
def test_values_that_are_the_same_fit_are_rejected(base: dict[str, object]) -> None:
    with pytest.raises(PairsLitError, match=r'space: .*0.1} and .*"0.1"} are the same fit. Keep one of them'):
        pairs_lit.sweep("fc_aux", build_spec(space={ALPHA: [0.1, "0.1"]}), base)


@pytest.mark.slow
def test_a_confirmation_needs_test_pairs(base: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    shipped = Path(pairs_lit.__file__).parent.parent / "configs" / "fc_aux.yaml"
    content = yaml.safe_load(shipped.read_text())
    content.setdefault("data", {})["watch_test"] = False
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(PairsLitError, match=r"data.watch_test must be true or end in the config, got false"):
        pairs_lit.sweep(file, build_spec(confirm={"count": 2, "seed": 9}), base)


@pytest.mark.slow
def test_the_command_line_rejects_what_a_sweep_sets_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(build_spec()))
    for option in ("--data.watch_test", "--rounds.count"):
        assert main(["sweep", "--config", "fc_aux", "--sweep", str(file), option, "1"]) == 2
        assert f"{option[2:]} cannot be given to a sweep" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_that_cannot_be_built_leaves_the_other_trials_alone(
    base: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_MAX_TRIALS_CHECKED_FIRST", 1)  # only examples are read before the first fit
    widths, dropout = "model.backbone.init_args.widths", "model.backbone.init_args.dropout"
    space = {widths: [[8, 10], [12, 10]], dropout: [0.0, 1.5]}
    with pytest.raises(PairsLitError, match=r"dropout 1\.5: .*must contain only values of 0 or more and below 1"):
        pairs_lit.sweep("fc_aux", build_spec(space=space), base)
    monkeypatch.setattr(sweep_module, "generate_examples", lambda space: [{widths: [8, 10], dropout: 0.0}])
    result = pairs_lit.sweep("fc_aux", build_spec(space=space), base)
    assert len(result.trials) == 2
    assert "Trial 1 could not be trained: " in str(result)
    assert "trial 1 is left out: " in capsys.readouterr().err

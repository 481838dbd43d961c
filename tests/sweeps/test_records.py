"""Studies that hold the result of every trial, and the number of writes and reads that a study needs."""

from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from pairs_lit.sweeps import study as study_module
from pairs_lit.sweeps.records import get_trial_key, has_all_results
from pairs_lit.sweeps.spec import read_spec
from tests.support.sweeps import ALPHA, LR, build_spec
from tests.sweeps.test_study import OPTIONS, finish, opened, tell

TPE = build_spec(space={ALPHA: {"low": 0.1, "high": 1.0}}, sampler="tpe", trials=4)


def is_complete(folder: Path, content: dict[str, Any], storage: str | None = None, **options: object) -> bool:
    return has_all_results(folder / "s", "s", read_spec(content), OPTIONS | options, storage)


@pytest.mark.parametrize("content", [build_spec(), TPE, TPE | {"sampler": "random"}])
def test_a_finished_sweep_has_all_results(content: dict[str, Any], tmp_path: Path) -> None:
    with opened(tmp_path, content) as study:
        finish(study, tmp_path)
    assert is_complete(tmp_path, content)
    assert not is_complete(tmp_path, content, **{"data.batch_size": 20})
    assert not is_complete(tmp_path, content | {"metric": "val/target_loss"})
    more = {"trials": 5} if "trials" in content else {"space": {ALPHA: [0.1, 1.0, 2.0]}}
    assert not is_complete(tmp_path, content | more)


def test_an_unfinished_sweep_has_not_all_results(tmp_path: Path) -> None:
    assert not is_complete(tmp_path, build_spec())
    assert not list(tmp_path.iterdir())
    with opened(tmp_path, build_spec(at_once=1)) as study:
        tell(study, study.claim_trials(), tmp_path)
        assert not is_complete(tmp_path, build_spec(at_once=1))
        study.report_failure(study.claim_trials()[0], "no such width")
    assert not is_complete(tmp_path, build_spec(at_once=1))


def test_a_database_has_all_results(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    assert not is_complete(tmp_path, build_spec(), url)
    assert not (tmp_path / "study.db").exists()
    with opened(tmp_path, build_spec(), url) as study:
        finish(study, tmp_path)
    assert is_complete(tmp_path, build_spec(), url)


def test_a_damaged_journal_has_not_all_results(tmp_path: Path) -> None:
    with opened(tmp_path, build_spec()) as study:
        finish(study, tmp_path)
    (tmp_path / "s" / "study.log").write_text("nonsense\n" * 3)
    assert not is_complete(tmp_path, build_spec())


def count_writes(monkeypatch: pytest.MonkeyPatch, folder: Path, trials: int) -> int:
    """Return how often the journal is written while a sweep finishes all its trials in one batch."""
    writes: list[object] = []
    original = JournalFileBackend.append_logs

    def append(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        writes.append(logs)
        original(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", append)
        content = build_spec(space={LR: [0.1 * place for place in range(1, trials + 1)]}, at_once=trials)
        with opened(folder, content) as study:
            finish(study, folder)
    return len(writes)


def test_a_trial_is_written_to_the_journal_four_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few, many = (count_writes(monkeypatch, tmp_path / str(trials), trials) for trials in (5, 15))
    assert many - few == 4 * 10  # added, claimed, its attributes, its result


def test_an_error_while_records_are_collected_writes_none(tmp_path: Path) -> None:
    with opened(tmp_path, build_spec()) as study:
        taken = study.claim_trials()
        before = (tmp_path / "s" / "study.log").read_bytes()
        with pytest.raises(TypeError, match="JSON"):
            study._save_result(0, {"mean": 1.0, "bad": object()}, study_module.TrialState.COMPLETE, 1.0)
        assert (tmp_path / "s" / "study.log").read_bytes() == before
        tell(study, taken, tmp_path)
        assert study.is_over


def test_the_key_of_a_trial_is_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    computed: list[int] = []
    monkeypatch.setattr(
        study_module, "get_trial_key", lambda trial: computed.append(trial.number) or get_trial_key(trial)
    )
    with opened(tmp_path, build_spec(space={ALPHA: [0.1 * place for place in range(1, 21)]}, at_once=2)) as study:
        finish(study, tmp_path)
    assert sorted(computed) == list(range(20))


def test_values_of_a_long_list_are_stored_once(tmp_path: Path) -> None:
    values = [0.001 * place for place in range(1, 302)]
    with opened(tmp_path, build_spec(space={ALPHA: values, LR: [0.1]}, at_once=400)) as study:
        found = {tuple(trial.values.values()) for trial in study.claim_trials()}
        assert found == {(value, 0.1) for value in values}
        assert all(set(trial.params) == {LR} for trial in study._study.trials)

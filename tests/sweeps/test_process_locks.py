from pathlib import Path

import pytest
from filelock import FileLock

from pairs_lit.sweeps import process_locks
from pairs_lit.sweeps.process_locks import ProcessLock, has_ended, is_locked


class WindowsLock(FileLock):
    """A lock whose file is deleted when it is released, as on Windows."""

    def release(self, force: bool = False) -> None:
        was_locked = self.is_locked
        super().release(force)
        if was_locked and not self.is_locked:
            Path(self.lock_file).unlink(missing_ok=True)


@pytest.fixture(params=[FileLock, WindowsLock])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_locks, "FileLock", request.param)


@pytest.mark.usefixtures("_system")
class TestProcessLock:
    def test_a_process_lives_until_it_releases_its_lock(self, tmp_path: Path) -> None:
        lock = ProcessLock(tmp_path / "working")
        assert has_ended(lock.name, lock.file) is False
        lock.release(is_released=False)
        assert [has_ended(lock.name, lock.file) for _ in range(3)] == [True] * 3, "the first check must not change it"

    def test_nothing_remains_of_a_process_without_trials(self, tmp_path: Path) -> None:
        lock = ProcessLock(tmp_path)
        lock.release(is_released=True)
        assert list(tmp_path.iterdir()) == []
        assert has_ended(lock.name, lock.file) is None

    def test_checking_keeps_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "a.lock"
        file.touch()
        assert not is_locked(file)
        assert file.is_file()


def test_the_file_name_is_valid_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Jörg's <PC>?")
    lock = ProcessLock(tmp_path)
    assert lock.file.name.startswith("J_rg_s__PC__")
    assert has_ended(lock.name, lock.file) is False
    lock.release(is_released=True)

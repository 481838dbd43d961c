"""Tests of the number of cores, which CPU affinity and the quotas of control groups limit."""

from pathlib import Path

import pytest

from pairs_lit.system import cores as system_cores
from tests.support.worker_runs import needs_linux


def write_control_group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("membership", "groups", "cores"),
    [
        ("0::/job\n", {"job": {"cpu__max": "150000 100000\n"}}, 1.5),
        ("0::/job\n", {"job": {"cpu__max": "max 100000\n"}}, float("inf")),
        ("0::/slice/job\n", {"slice": {"cpu__max": "300000 100000\n"}, "slice/job": {"cpu__max": "max 100000\n"}}, 3),
        ("0::/elsewhere\n", {"": {"cpu__max": "200000 100000\n"}}, 2),
        ("4:cpu,cpuacct:/a\n", {"cpu,cpuacct/a": {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "25000"}}, 2),
        ("4:cpu:/a\n1:memory:/b\n", {"cpu/a": {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "1"}}, float("inf")),
        ("1:memory:/b\n", {}, float("inf")),
        ("", {}, float("inf")),
    ],
)  # fmt: skip
def test_quota_of_control_groups_limits_the_cores(
    tmp_path: Path, membership: str, groups: dict[str, dict[str, str]], cores: float
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for path, files in groups.items():
        write_control_group(tmp_path / "groups", path, **files)
    assert system_cores.read_core_limit(tmp_path / "cgroup", tmp_path / "groups") == cores


@needs_linux
def test_cpu_affinity_and_quota_limit_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(system_cores, "_CGROUP_MEMBERSHIP_FILE", tmp_path / "nothing")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(5)))
    assert system_cores.count_usable_cores() == 5
    monkeypatch.setattr(system_cores, "read_core_limit", lambda membership, root: 0.5)
    assert system_cores.count_usable_cores() == 1


def test_other_systems_count_the_cores_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert system_cores.count_usable_cores() == 12

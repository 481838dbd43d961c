"""Default names of sweeps."""

from pathlib import Path

import pytest

from pairs_lit.commands import sweep
from pairs_lit.runs.run_folder import check_run_name


@pytest.mark.parametrize(
    ("config", "spec", "name"),
    [
        ("my/fc_aux.yaml", "alpha.yaml", "fc_aux-alpha"),
        ("aux.yaml", "a.yaml", "aux_-a"),
        ("fc", f"{'x' * 60}.{'y' * 60}.yaml", f"fc-{'x' * 60}.{'y' * 36}"),
    ],
)
def test_the_name_consists_of_both_files(
    config: str, spec: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / spec).write_text("space: {model.loss.aux_weight: [0.1]}", encoding="utf-8")
    names: list[str] = []

    def stop(_base: object, _spec: object, name: str, _storage: object) -> None:
        names.append(check_run_name(name))
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "Search", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(["--config", config, "--sweep", str(tmp_path / spec)])
    assert names == [name]

"""Fixtures for small sweeps."""

from pathlib import Path

import pytest

from tests.support.sweeps import build_tiny_changes


@pytest.fixture
def base(tiny_root: Path, tmp_path: Path) -> dict[str, object]:
    return build_tiny_changes(tiny_root, tmp_path)

"""Small runs, trained once for all tests of inference, which must not change them."""

import pytest

from tests.support.small_runs import RunCache


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> RunCache:
    return RunCache(tmp_path_factory.mktemp("runs"))

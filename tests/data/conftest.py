"""Fixtures for the tests of the data package."""

from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from tests.support.images import write_images, write_like_mnist


@pytest.fixture(autouse=True)
def _no_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent tests from using the real servers."""
    monkeypatch.setattr(MNIST, "mirrors", [])
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("pictures"), ["1", "2", "10"])


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_like_mnist(tmp_path_factory.mktemp("fashion"), "FashionMNIST")

from pathlib import Path

import pytest
import torch

from pairs_lit.data import gpu_store
from pairs_lit.data.gpu_store import fits_gpu, move_to_gpu
from pairs_lit.data.loaders import StackLoader
from tests.support.data_modules import SEEDS, build_data_module
from tests.support.meta_device import META, DeviceWatch


@pytest.mark.parametrize(("data_bytes", "free_bytes", "fits"), [(25, 100, True), (26, 100, False), (0, 0, True)])
def test_data_may_take_a_quarter_of_the_free_memory(data_bytes: int, free_bytes: int, fits: bool) -> None:
    assert fits_gpu(data_bytes, free_bytes) is fits


def test_images_are_copied_once_and_batches_gathered_on_the_device(tiny_root: Path) -> None:
    data = build_data_module(tiny_root, normalise="standard")
    with DeviceWatch() as watch:
        store = move_to_gpu(data.bank, META, augments=False)
        num_copies = len(watch.to_device)
        loader = StackLoader(store, ("val", "test"), {0: slice(0, 2), 1: slice(2, 3)}, 8)
        batches = list(loader)
    assert data.bank.images.shape in watch.to_device
    assert len(watch.to_device) == num_copies
    assert not watch.to_cpu
    assert {tensor.device for batch in batches for tensor in (batch.images, batch.digits, batch.target)} == {META}
    assert not data.bank.images.is_meta


@pytest.mark.parametrize("normalise", ["raw", "standard"])
def test_a_moved_store_gives_the_same_batches(normalise: str, tiny_root: Path) -> None:
    data = build_data_module(tiny_root, normalise=normalise)
    moved = data.bank.to(torch.device("cpu"))
    rounds = slice(0, len(SEEDS))
    for epoch in (None, 0, 3):
        pairs, expected = (store.get_pairs("train", rounds, epoch) for store in (moved, data.bank))
        assert torch.equal(moved.gather_images(pairs.index, rounds), data.bank.gather_images(expected.index, rounds))
        assert torch.equal(pairs.digits, expected.digits)
    assert torch.equal(moved.get_evaluation_images("val", rounds), data.bank.get_evaluation_images("val", rounds))


def test_images_that_do_not_fit_stay_on_the_cpu(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = build_data_module(tiny_root).bank
    assert bank.tensor_bytes > bank.images.nbytes
    for free, is_moved in ((4 * bank.tensor_bytes, True), (4 * bank.tensor_bytes - 1, False)):
        monkeypatch.setattr(gpu_store, "measure_free_memory", lambda device, free=free: free)
        assert (move_to_gpu(bank, META, augments=True) is not bank) is is_moved


def test_images_for_augmentation_stay_on_the_cpu_of_a_mac(tiny_root: Path) -> None:
    bank = build_data_module(tiny_root).bank
    assert move_to_gpu(bank, torch.device("mps"), augments=True) is bank

import os
import pickle
import resource
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pairs_lit.checkpoints.files import METADATA_KEY, DurableCheckpointIO, read_checkpoint
from pairs_lit.errors import PairsLitError

RECORDED = {"seeds": [0, 1], "source": "digits", "train_pairs": 1000}
DAMAGED = "damaged, or not a checkpoint of tensors and plain values; nothing in it was executed"
NOT_A_CHECKPOINT = "not a checkpoint that pairs-lit wrote"


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self._marker),)


def build_content() -> dict[str, Any]:
    weights = OrderedDict(weight=torch.arange(6.0).view(2, 3), steps=torch.tensor(7))
    rest: dict[str, Any] = {"loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
    return {"epoch": 3, "pytorch-lightning_version": "2.6.6", "state_dict": weights, METADATA_KEY: RECORDED} | rest


def save(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Stand in for a full disk: writing beyond ``size`` bytes fails with an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save(tmp_path / "last.ckpt", build_content()))
    assert checkpoint["epoch"] == 3
    assert checkpoint[METADATA_KEY] == RECORDED
    assert torch.equal(checkpoint["state_dict"]["weight"], torch.arange(6.0).view(2, 3))


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=r"--ckpt_path .*last\.ckpt: no such file"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match="no such file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_rejected(tmp_path: Path, part: float) -> None:
    path = save(tmp_path / "last.ckpt", build_content())
    original = path.read_bytes()
    path.write_bytes(original[: int(part * len(original))])
    with pytest.raises(PairsLitError, match=DAMAGED):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello world\n",
        b"rounds:\n  count: 10\n",
        b"seeds: [1]\n",
        b"seed,status,train_accuracy\n0,ok,0.9\n",
        b'{"a": 1}\n',
        b"PK\x03\x04",
        b"\x80",
        b"\x80\x02}q\x00(X",
        b"My",
        b"}]K\x01s.",
        b"\xff" * 50,
    ],
)
def test_any_other_file_is_rejected(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(garbage)
    with pytest.raises(PairsLitError, match=DAMAGED):
        read_checkpoint(path)


def test_unpickling_the_bomb_runs_code(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("force", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("form", ["torch", "legacy torch", "pickle"])
@pytest.mark.parametrize("reader", ["read_checkpoint", "load_checkpoint", "load_checkpoint, all"])
def test_code_in_a_checkpoint_is_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: str | None, form: str, reader: str
) -> None:
    if force is not None:
        monkeypatch.setenv(force, "1")
    path, marker = tmp_path / "last.ckpt", tmp_path / "marker"
    value = build_content() | {"loops": Bomb(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(value, protocol=2))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=form == "torch")
    read = {
        "read_checkpoint": read_checkpoint,
        "load_checkpoint": DurableCheckpointIO().load_checkpoint,
        "load_checkpoint, all": lambda path: DurableCheckpointIO().load_checkpoint(path, weights_only=False),
    }[reader]
    with pytest.raises(PairsLitError, match="nothing in it was executed"):
        read(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": {}},
        {},
        [METADATA_KEY],
        torch.zeros(3),
        build_content() | {"hyper_parameters": {"lr": 0.1}},
        build_content() | {"pytorch-lightning_version": "1.9.5"},
        build_content() | {"pytorch-lightning_version": None},
        build_content() | {"optimizer_states": {}},
        build_content() | {METADATA_KEY: [1]},
        build_content() | {METADATA_KEY: {"seeds": torch.zeros(2)}},
        build_content() | {METADATA_KEY: {"seeds": [[0, 1]]}},
    ],
    ids=[
        "no record",
        "empty",
        "list",
        "tensor",
        "hyper_parameters",
        "older",
        "no version",
        "no list",
        "record of another kind",
        "a tensor in the record",
        "nested lists in the record",
    ],
)
def test_a_checkpoint_of_another_program_is_rejected(tmp_path: Path, value: object) -> None:
    with pytest.raises(PairsLitError, match=NOT_A_CHECKPOINT):
        read_checkpoint(save(tmp_path / "last.ckpt", value))


def test_a_saved_checkpoint_is_loaded_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    DurableCheckpointIO().save_checkpoint(build_content(), path)
    loaded = DurableCheckpointIO().load_checkpoint(path)
    assert loaded.keys() == build_content().keys()
    assert loaded[METADATA_KEY] == RECORDED
    for name, tensor in build_content()["state_dict"].items():
        assert torch.equal(loaded["state_dict"][name], tensor)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    DurableCheckpointIO().save_checkpoint(build_content(), path)
    with pytest.raises(PairsLitError, match=r"no checkpoint can hold unpicklable, a builtins\.function"):
        DurableCheckpointIO().save_checkpoint({"unpicklable": lambda: None}, path)
    assert read_checkpoint(path)["epoch"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_short_error_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    DurableCheckpointIO().save_checkpoint(build_content(), path)
    with limit_file_size(2000), pytest.raises(PairsLitError, match=r"last\.ckpt cannot be written"):
        DurableCheckpointIO().save_checkpoint(build_content() | {"large": torch.zeros(10000)}, path)
    assert read_checkpoint(path)["epoch"] == 3
    assert list(tmp_path.iterdir()) == [path]

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CONFIGS, Fit
from tests.support.mnist_files import write_mnist
from tests.support.runs import read_tables, run_rejected

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def pack_files(raw: Path, spell: Callable[[str], str] = str) -> None:
    for name in NAMES:
        (raw / f"{spell(name)}.gz").write_bytes(gzip.compress((raw / name).read_bytes(), 1))
        (raw / name).unlink()


def rename_with_dots(raw: Path) -> None:
    for name in NAMES:
        (raw / name).rename(raw / name.replace("-idx", ".idx"))


class TestMnistsFiles:
    @pytest.fixture
    def refuse_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pairs_lit.data.mnist._is_reachable", lambda mirrors: False)

    @pytest.mark.parametrize("place", ["", "MNIST", "MNIST/raw"])
    @pytest.mark.parametrize(
        "form",
        [
            lambda raw: None,
            pack_files,
            rename_with_dots,
            lambda raw: pack_files(raw, lambda name: name.replace("-idx", ".idx")),
        ],
        ids=["plain", "packed", "dotted", "packed and dotted"],
    )
    @pytest.mark.usefixtures("refuse_network")
    @pytest.mark.quick(2)
    def test_are_found_in_all_places_and_formats(
        self, place: str, form: Callable[[Path], None], fit: Fit, tiny_root: Path, tmp_path: Path
    ) -> None:
        root = write_mnist(tmp_path / "mnist")
        form(root / "MNIST" / "raw")
        run = fit("--data.root", str(root / place), config="fc_aux")
        assert read_tables(run) == read_tables(fit(config="fc_aux"))

    @pytest.mark.parametrize("form", [pack_files, rename_with_dots])
    def test_of_real_mnist_are_verified(self, form: Callable[[Path], None], mnist_root: Path, tmp_path: Path) -> None:
        from pairs_lit.data.sources import load_source

        raw = tmp_path / "raw"
        raw.mkdir()
        for name in NAMES:
            shutil.copy(mnist_root / "MNIST" / "raw" / name, raw / name)
            (raw / name).chmod(0o644)
        form(raw)
        for root in (tmp_path, raw):
            source = load_source("mnist", root, allow_unverified=False)
            assert (source.name, len(source.train.labels)) == ("mnist", 60_000)

    @pytest.mark.usefixtures("refuse_network")
    def test_a_damaged_packed_file_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        raw = write_mnist(tmp_path) / "MNIST" / "raw"
        pack_files(raw)
        file = raw / "t10k-images-idx3-ubyte.gz"
        for damaged in (file.read_bytes()[:-200], b"<html>not found</html>", b""):
            file.write_bytes(damaged)
            options = [
                "fit",
                "--config",
                str(CONFIGS / "fc.yaml"),
                "--data.root",
                str(tmp_path),
                "--data.source",
                "mnist",
            ]
            message = run_rejected([*options, "--data.allow_unverified", "true"], capsys)
            assert re.search(
                r"t10k-images-idx3-ubyte.gz (is damaged and cannot be unpacked|is not in MNIST's)", message
            )

    @pytest.mark.usefixtures("refuse_network")
    @pytest.mark.slow
    def test_are_found_if_each_is_in_another_place(self, fit: Fit, tmp_path: Path) -> None:
        """A packed file without .gz, an unpacked one with .gz, one outside the folder, one in a folder of its name."""
        raw = write_mnist(tmp_path / "mnist") / "MNIST" / "raw"
        images, labels, tests, last_one = (raw / name for name in NAMES)
        images.write_bytes(gzip.compress(images.read_bytes(), 1))
        labels.rename(raw / f"{labels.name}.gz")
        tests.rename(tmp_path / "mnist" / tests.name)
        content = last_one.read_bytes()
        last_one.unlink()
        last_one.mkdir()
        (last_one / last_one.name).write_bytes(content)
        for root in (tmp_path / "mnist", tmp_path / "mnist" / tests.name):
            assert read_tables(fit("--data.root", str(root), config="fc_aux")) == read_tables(fit(config="fc_aux"))

    @pytest.mark.usefixtures("refuse_network")
    def test_the_error_lists_found_and_missing_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "mnist.npz").write_text("")
        (tmp_path / "train-images-idx3-ubyte").write_text("")
        options = ["fit", "--config", str(CONFIGS / "fc.yaml"), "--data.root", str(tmp_path), "--data.source", "mnist"]
        message = run_rejected(options, capsys)
        assert re.search(
            r"found: mnist.npz, train-images-idx3-ubyte; missing: train-labels-idx1-ubyte\[.gz\], ", message
        )

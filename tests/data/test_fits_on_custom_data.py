"""Complete fits on custom data, and commands on the resulting runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import pairs_lit
from pairs_lit.checkpoints.match import check_metadata
from pairs_lit.cli import main
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.errors import PairsLitError
from tests.conftest import CONFIGS
from tests.support.images import write_images
from tests.support.sources import COUNTS, CUSTOM_DATASETS, FOLDER, OPTIONS, SETS, load

NETWORK = {"model.backbone.widths": [10, 3]}


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pairs_lit.Run:
    options = {
        "data.source": FOLDER,
        "data.root": str(folder),
        "trainer.default_root_dir": str(tmp_path_factory.mktemp("r")),
    }
    return pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | NETWORK | options)


def read_summary(run: pairs_lit.Run) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run.folder / "summary.json").read_text())
    return summary


def test_a_folder_of_three_classes_is_trained(run: pairs_lit.Run, folder: Path) -> None:
    summary = read_summary(run)
    assert {name: summary["data"][name] for name in ("source", "classes", "held_out")} == {
        "source": "ImageFolder",
        "classes": 3,
        "held_out": "a sixth of each class (seed 0)",
    }
    assert summary["data"]["fingerprint"] == load(FOLDER, folder).compute_fingerprint()
    assert summary["class_names"] == ["1", "2", "10"]
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"]["source"] == FOLDER
    assert run.network(0).members[0].branch[-1].out_features == 3


def test_the_digit_accuracy_agrees_with_the_single_round_network_on_the_files(run: pairs_lit.Run, folder: Path) -> None:
    number = {
        np.asarray(Image.open(file)).astype(np.float32).tobytes(): place
        for place, name in enumerate(["1", "2", "10"])
        for file in (folder / name).iterdir()
    }
    counts = {name.removeprefix("data."): count for name, count in COUNTS.items()}
    data = PairDataModule(seeds=[0, 1], source=FOLDER, root=str(folder), **counts)
    for r, result in enumerate(run.rounds):
        pairs = data.bank.images[data.bank.pairs["test"].index[r]]
        digits = np.array([[number[image.numpy().tobytes()] for image in pair] for pair in pairs])
        with torch.no_grad():
            probability, logits = run.network(result.seed)(pairs)
        assert result.test_digit_accuracy == pytest.approx((logits.argmax(-1).numpy() == digits).mean())
        holds = digits[:, 0] <= digits[:, 1]
        assert result.test_accuracy == pytest.approx(((probability > 0.5).numpy() == holds).mean())


def test_a_fit_reports_duplicates_and_class_names_below_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_images(tmp_path / "train", ["low", "middle", "high"]).parent
    for name in ("low", "middle", "high"):
        shutil.copytree(root / "train" / name, root / "test" / name)
        (root / "test" / name / sorted(path.name for path in (root / "test" / name).iterdir())[0]).unlink()
    options = OPTIONS | {"data.source": FOLDER, "data.root": root, "data.val_pairs": 4, "data.train_pairs": 10}
    options |= {"data.class_names": "[low, middle, high]", "trainer.default_root_dir": tmp_path / "runs"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    widths = ["--model.backbone.widths", "[10, 3]"]
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *arguments, *widths]) == 0
    out, err = capsys.readouterr()
    warning = "WARNING: 33 of 33 test images are byte-identical to training images, so test accuracies are too high"
    assert (out.count(warning), err.count(warning)) == (1, 1)
    assert out.index(warning) > out.index("test accuracy")
    assert "0 = 'low', 1 = 'middle', 2 = 'high'" in out
    run = pairs_lit.Run.load(next((tmp_path / "runs").rglob("summary.json")).parent)
    summary = read_summary(run)
    assert summary["duplicates"] == {
        "test_in_train": 33,
        "validation_in_train": 0,
        "within_train": 0,
        "in_several_classes": 0,
    }
    assert summary["class_names"] == ["low", "middle", "high"]
    assert summary["data_notes"] == []
    assert main(build_arguments("test", run)) == 0
    assert warning in capsys.readouterr().out


def test_the_test_of_a_run_on_changing_images_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        "data.source": {"class_path": f"{CUSTOM_DATASETS}.Turning", "init_args": {"own": True}},
        "model.backbone.widths": [10, 3],
    }
    changing = pairs_lit.fit(
        str(CONFIGS / "fc_aux.yaml"), OPTIONS | options | {"trainer.default_root_dir": str(tmp_path)}
    )
    assert read_summary(changing)["deterministic"] is False
    assert "returns different images each time it is read" in read_summary(changing)["data_notes"][0]
    assert main(build_arguments("test", changing)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        "Turning (own True) returns different images each time it is read, so those of the run cannot be read" in error
    )
    assert "data.root" not in error


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("mnist", r"Set data\.root to the data that the run was trained on\.$"),
        (
            "EMNIST (split letters)",
            r"If an earlier release trained it, which read EMNIST with rows and columns exchanged",
        ),
        ("my_data.Own", r" If the dataset draws random numbers in its constructor, give it a fixed seed\.$"),
    ],
)
def test_the_error_about_different_images_suggests_a_cause(source: str, advice: str) -> None:
    saved = {"source": source, "fingerprint": "a"}
    with pytest.raises(PairsLitError, match=advice):
        check_metadata(saved, saved | {"fingerprint": "b"})
    check_metadata(saved, saved | {"deterministic": False, "transpose": False})


def test_the_test_of_a_run_on_transposed_images_needs_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data.source": "digits", "data.transpose": True, "trainer.default_root_dir": str(tmp_path)}
    run = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | options)
    assert main(build_arguments("test", run)) == 0
    assert main([*build_arguments("test", run), "--data.transpose", "false"]) == 2
    assert "transpose is True in the checkpoint and False in the config" in capsys.readouterr().err


def test_a_run_can_be_opened_without_its_images(run: pairs_lit.Run, folder: Path) -> None:
    moved = folder.with_name("moved")
    folder.rename(moved)
    try:
        assert pairs_lit.open_run(run.folder).network(1).members[0].branch[-1].out_features == 3
    finally:
        moved.rename(folder)


def build_arguments(command: str, run: pairs_lit.Run) -> list[str]:
    last = run.folder / "checkpoints" / "last.ckpt"
    return [command, "--config", str(run.folder / "config.yaml"), "--ckpt_path", str(last)]


def test_commands_reject_different_images(
    run: pairs_lit.Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    Image.new("L", (14, 14)).save(other / "1" / "0.png")
    before = sorted(path.name for path in run.folder.iterdir())
    for command in ("test", "predict", "fit"):
        assert main([*build_arguments(command, run), "--data.root", str(other), "--trainer.max_epochs", "3"]) == 2
        message = "the checkpoint does not match the data: the SHA-256 of all images and labels of ImageFolder is"
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in run.folder.iterdir()) == before
    assert main([*build_arguments("test", run), "--data.root", str(shutil.copytree(folder, tmp_path / "same"))]) == 0


def test_runs_on_different_images_are_compared_only_on_request(
    run: pairs_lit.Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run.folder, tmp_path / "other" / "20260101-120000-1")
    summary = read_summary(run)
    summary["data"]["fingerprint"] = "0" * 64
    (other / "summary.json").write_text(json.dumps(summary))
    folders = [str(run.folder), str(other)]
    assert main(["compare", *folders]) == 2
    assert (
        "the runs differ in their images or labels, although their sources have the same name (SHA-256 "
        in capsys.readouterr().err
    )
    assert main(["compare", *folders, "--allow-different"]) == 0
    assert "unpaired" in capsys.readouterr().out
    del summary["data"]["fingerprint"]
    (other / "summary.json").write_text(json.dumps(summary))
    assert main(["compare", *folders]) == 0
    assert "paired by seed" in capsys.readouterr().out


def test_a_checkpoint_of_an_earlier_release_can_be_tested_and_resumed(tmp_path: Path) -> None:
    options = {"data.source": "digits", "trainer.default_root_dir": str(tmp_path)}
    earlier = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | options)
    last = earlier.folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for name in ("resize", "classes", "held_out", "fingerprint"):
        del checkpoint["pairs_lit"][name]
    torch.save(checkpoint, last)
    assert main(build_arguments("test", earlier)) == 0
    assert pairs_lit.open_run(earlier.folder).network(0).members[0].branch[-1].out_features == 10
    assert main([*build_arguments("fit", earlier), "--trainer.max_epochs", "3"]) == 0
    assert pairs_lit.Run.load(earlier.folder).curves.epochs == 3


def test_a_fit_on_fashion_mnist_prints_class_names(
    fashion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OPTIONS | {"data.source": f"{SETS}.FashionMNIST", "data.root": fashion, "data.val_pairs": 5}
    arguments = [f"--{name}={value}" for name, value in (options | {"trainer.default_root_dir": tmp_path}).items()]
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *arguments, "--data.train_pairs", "20"]) == 0
    output = capsys.readouterr().out
    assert "data: FashionMNIST, 20 training pairs" in output
    assert "relation le: first ≤ second by class number (10 classes): 0 = 'T-shirt/top', 1 = 'Trouser'" in output


FOUR = {"class_path": f"{CUSTOM_DATASETS}.Items", "init_args": {"classes": 4}}
THREE = FOUR | {"init_args": {"classes": 3}}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data.source", f"{CUSTOM_DATASETS}.Items", "--data.source.classes", "4"],
        ["--data.source.classes=4", f"--data.source={CUSTOM_DATASETS}.Items"],
        ["--data.source.init_args.classes", "4", "--data.source.class_path", f"{CUSTOM_DATASETS}.Items"],
        [f"--data.source={json.dumps(FOUR)}"],
        [f"--data.source={json.dumps(THREE)}", f"--data.source={json.dumps(FOUR)}"],
        [f"--data.source={json.dumps(THREE)}", "--data.source.classes", "4"],
        ["--config", json.dumps({"data": {"source": FOUR}})],
        ["--config", json.dumps({"data": {"source": THREE}}), "--data.source.classes", "4"],
        ["--config", json.dumps({"data": {"source": THREE}}), "--config", json.dumps({"data": {"source": FOUR}})],
        ["--config", json.dumps({"data": {"source": f"{CUSTOM_DATASETS}.Items"}}), "--data.source.classes", "4"],
        ["--data", json.dumps({"source": THREE}), "--data.source.classes", "4"],
        ["--data", "own.yaml"],
        ["--config", json.dumps({"data": "own.yaml"})],
        ["--data", "own.yaml", "--data", json.dumps({"source": FOUR})],
    ],
)
@pytest.mark.quick(5)
def test_a_dataset_with_arguments_can_be_given_in_any_place(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"source": FOUR}))
    wrong = ["--model.backbone.widths", "[10, 5]"]  # the error names the number of classes
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), *arguments, *wrong]) == 2
    assert "needs embeddings of width 4, but the backbone's have width 5" in capsys.readouterr().err


def test_a_saved_config_with_dataset_arguments_can_be_read(tmp_path: Path) -> None:
    network = {"model.backbone.widths": [10, 4], "trainer.default_root_dir": str(tmp_path)}
    run = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | network | {"data.source": FOUR})
    assert read_summary(run)["data"]["source"] == f"{CUSTOM_DATASETS}.Items (classes 4)"
    assert main(build_arguments("test", run)) == 0
    assert main([*build_arguments("test", run), "--data.source.count", "100"]) == 2


def test_an_argument_without_a_dataset_is_a_one_line_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), "--data.source.split", "digits"]) == 2
    assert "--data.source.split=digits needs the class of the dataset" in capsys.readouterr().err


def test_the_error_of_a_network_for_ten_classes_names_the_fix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--data.source", FOLDER, "--data.root", str(folder)]
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), *source]) == 2
    message = (
        "embeddings of width 3, but the backbone's have width 10. Change its last width to 3, the number of classes"
    )
    assert message in capsys.readouterr().err
    head = ["--model.head", "pairs_lit.nn.heads.PowerHead", "--model.loss.target", "mse", "--model.readout", "none"]
    assert main(["fit", "--config", str(CONFIGS / "fc.yaml"), *source, *head, "--model.loss.digits", "none"]) == 2
    assert "needs a width of 6 for both images, got 20. Give the backbone 3 outputs" in capsys.readouterr().err
    assert (
        main(
            [
                "fit",
                "--config",
                str(CONFIGS / "fc.yaml"),
                *source,
                "--model.network",
                "tests.support.pair_networks.Siamese",
            ]
        )
        == 2
    )
    assert "(output, digit logits (N, 2, 3)). Siamese gave (2, 1) and (2, 2, 10)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_over_a_folder_of_images(folder: Path, tmp_path: Path) -> None:
    options = {"data.source": FOLDER, "data.root": str(folder), "trainer.default_root_dir": str(tmp_path)}
    space = {"space": {"model.loss.aux_weight": [0.1, 1.0]}, "rounds": {"count": 2}}
    sweep = pairs_lit.sweep(str(CONFIGS / "fc_aux.yaml"), space, OPTIONS | NETWORK | options)
    assert len(sweep.trials) == 2
    assert sweep.best.data["classes"] == 3


@pytest.mark.parametrize("head", ["SoftmaxHead", "PowerHead", "ArgmaxHead"])
def test_probability_heads_have_as_many_classes_as_the_data(folder: Path, tmp_path: Path, head: str) -> None:
    options = {"data.source": FOLDER, "data.root": str(folder), "trainer.default_root_dir": str(tmp_path)}
    options |= {"model.head": f"pairs_lit.nn.heads.{head}", "model.code_activation": "none"}
    options |= {"model.loss.target": "none" if head == "ArgmaxHead" else "ce", "model.loss.digits": "mse"}
    run = pairs_lit.fit(str(CONFIGS / "fc_aux.yaml"), OPTIONS | NETWORK | options)
    assert run.network(0)(torch.rand(4, 2, 14, 14))[1].shape == (4, 2, 3)

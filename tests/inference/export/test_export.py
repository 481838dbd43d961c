"""Exports: files that other tools load without this package, with the predictions of the run."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnxruntime import InferenceSession
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.commands.export import run
from pairs_lit.data.image_format import parse_format
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.export import formats
from tests.support.pair_networks import Siamese
from tests.support.real_world_parts import Altered
from tests.support.small_runs import ALL, SMALL, RunCache
from tests.support.user_parts import TwoPaths


def answers(trained: pairs_lit.Run, seed: int, count: int = 7) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return preprocessed pairs, and the outputs of the single-round network."""
    images = torch.randint(256, (count, 2, 28, 28), generator=torch.Generator().manual_seed(count))
    pairs = trained.trained.preprocessing(seed)(images)
    with torch.no_grad():
        outputs = trained.network(seed)(pairs)
    return pairs, outputs if isinstance(outputs, tuple) else (outputs,)


def close(found: object, expected: tuple[Tensor, ...]) -> None:
    both = found if isinstance(found, tuple | list) else (found,)
    assert len(both) == len(expected)
    for one, other in zip(both, expected, strict=True):
        scale = max(1.0, float(other.abs().max()))  # P lies in 0 ... 1; logits may be large
        np.testing.assert_allclose(np.asarray(one), other.numpy(), atol=1e-5 * scale, rtol=0)


EXPORTED = [
    pytest.param(case, marks=pytest.mark.slow) if case == "resnet18" else case
    for case in ALL
    if case not in ("branching", "random")
]


@pytest.mark.parametrize("case", EXPORTED)
@pytest.mark.quick(1)
def test_onnx_predicts_what_the_round_predicts_for_any_number_of_pairs(
    case: str, runs: RunCache, tmp_path: Path
) -> None:
    (path,) = pairs_lit.export(runs(case), "onnx", 5, output=tmp_path)
    session = InferenceSession(path)
    for count in (1, 7, 100):
        pairs, expected = answers(runs(case), 5, count)
        close(session.run(None, {"pairs": pairs.numpy()}), expected)
    names = [each.name for each in session.get_outputs()]
    assert names == ["probability", "digit_logits"][: len(expected)]
    assert session.get_inputs()[0].shape[0] == "N"


@pytest.mark.parametrize("case", EXPORTED)
@pytest.mark.quick(1)
def test_a_program_predicts_what_the_round_predicts_for_any_number_of_pairs(
    case: str, runs: RunCache, tmp_path: Path
) -> None:
    (path,) = pairs_lit.export(runs(case), "torch", 5, output=tmp_path)
    program = torch.export.load(path).module()
    for count in (1, 7, 100):
        pairs, expected = answers(runs(case), 5, count)
        with torch.no_grad():
            close(program(pairs), expected)


@pytest.mark.parametrize("case", [case for case in ALL if case != "resnet18"])
@pytest.mark.quick(3)
def test_weights_are_those_of_the_single_round_network(case: str, runs: RunCache, tmp_path: Path) -> None:
    (path,) = pairs_lit.export(runs(case), "state_dict", 5, output=tmp_path)
    network, found = runs(case).network(5), load_file(path)
    expected = {name_in_file(name, network): value for name, value in network.state_dict().items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def name_in_file(name: str, network: pairs_lit.RoundNetwork) -> str:
    """Return the name that a weight of a round's network has in a file."""
    name = name.replace(".second_branch.", ".branches.1.").replace(".branch.", ".branches.0.")
    if len(network.members) > 1 or network.views is not None:
        return name
    return name.removeprefix("members.0.").removeprefix("network.")


AUTHORS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "whole network": ("", lambda: Siamese()),
    "a user class": ("branches.0.", lambda: TwoPaths((1, 14, 14))),
    "resnet18": ("branches.0.module.", lambda: torchvision.models.resnet18(num_classes=10)),
    "loop": ("branches.0.", lambda: Altered((1, 14, 14))),
    "members in a loop": ("members.1.branches.0.", lambda: Altered((1, 14, 14))),
    "members, whole networks": ("members.1.network.", lambda: Siamese()),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case == "resnet18" else case for case in AUTHORS]
)
@pytest.mark.quick(1)
def test_weights_load_into_the_class_of_the_network(case: str, runs: RunCache, tmp_path: Path) -> None:
    (path,) = pairs_lit.export(runs(case), "state_dict", 5, output=tmp_path)
    prefix, make = AUTHORS[case]
    plain = make().eval()
    part = {name.removeprefix(prefix): value for name, value in load_file(path).items() if name.startswith(prefix)}
    plain.load_state_dict(part)
    with safe_open(path, "pt") as file:
        classes = json.loads(file.metadata()["classes"])
    assert classes[prefix] == f"{type(plain).__module__}.{type(plain).__qualname__}"
    pairs, (probability, *_) = answers(runs(case), 5)
    if case == "whole network":
        with torch.no_grad():
            close(plain(pairs)[0].sigmoid().flatten(), (probability,))


@pytest.mark.slow
def test_a_program_and_its_metadata_are_read_without_this_package(runs: RunCache, tmp_path: Path) -> None:
    (path,) = pairs_lit.export(runs("whole network"), "torch", 5, output=tmp_path)
    pairs, expected = answers(runs("whole network"), 5)
    torch.save(pairs, tmp_path / "pairs.pt")
    code = """
import json, sys, torch
sys.modules["pairs_lit"] = None  # importing it fails
sys.modules["tests"] = None
facts = {"pairs_lit.json": ""}
program = torch.export.load(sys.argv[1], extra_files=facts).module()
with torch.no_grad():
    outputs = [value.tolist() for value in program(torch.load(sys.argv[2]))]
print(json.dumps([outputs, json.loads(facts["pairs_lit.json"])]))
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(path), str(tmp_path / "pairs.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    outputs, facts = json.loads(done.stdout)
    close([np.array(each) for each in outputs], expected)
    assert facts["seed"] == "5"


@pytest.mark.parametrize("to", ["onnx", "torch", "state_dict"])
@pytest.mark.quick(1)
def test_metadata_describe_preprocessing_and_origin(to: str, runs: RunCache, tmp_path: Path) -> None:
    trained = runs("separate")
    (path,) = pairs_lit.export(trained, to, 6, output=tmp_path)
    if to == "onnx":
        facts = {each.key: each.value for each in onnx.load(path).metadata_props}
    elif to == "torch":
        extra = {formats.METADATA_FILE: ""}
        torch.export.load(path, extra_files=extra)
        facts = json.loads(extra[formats.METADATA_FILE])
    else:
        with safe_open(path, "pt") as file:
            facts = file.metadata()
    prepare = trained.trained.preprocessing(6)
    assert [float(facts[name]) for name in ("image_size", "divisor", "mean", "std")] == [
        prepare.image_size,
        prepare.divisor,
        prepare.mean,
        prepare.std,
    ]
    assert prepare.std != 1
    assert (facts["seed"], facts["source"], facts["relation"]) == ("6", trained.data["source"], "le: first <= second")
    assert json.loads(facts["model"])["sharing"] == "separate"
    assert (facts["polarity"], facts["size"], facts["transposed"]) == ("light on dark", "28", "false")
    assert json.loads(facts["class_names"]) == []
    assert parse_format(facts["image_format"]) == trained.trained.image_format
    assert "resize to 28x28; average-pool grey images (0 ... 255, light on dark)" in facts["preparing"]


def test_metadata_of_a_run_without_a_recorded_format_have_an_unknown_polarity(runs: RunCache) -> None:
    facts = formats.build_metadata(runs("joint").trained.preprocessing(5), "le", {}, None, ["a", "b"])
    assert facts["polarity"] == "unknown"
    assert "as far as is known" in facts["preparing"]
    assert json.loads(facts["class_names"]) == ["a", "b"]


def test_metadata_record_polarity_and_transposition(runs: RunCache) -> None:
    known = runs("joint").trained.image_format
    assert known is not None
    dark = replace(known, polarity="dark on light", transposed=True)
    facts = formats.build_metadata(runs("joint").trained.preprocessing(5), "le", {}, dark)
    assert (facts["polarity"], facts["transposed"]) == ("dark on light", "true")
    assert facts["preparing"].startswith("exchange rows and columns")
    assert "dark on light" in facts["preparing"]


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.quick(1)
def test_no_file_contains_paths_of_this_machine(to: str, runs: RunCache, tmp_path: Path) -> None:
    (path,) = pairs_lit.export(runs("parts"), to, 5, output=tmp_path)
    assert str(Path(pairs_lit.__file__).parent).encode() not in path.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in path.read_bytes()


@pytest.mark.slow
def test_all_rounds_are_written_into_the_run_folder_and_listed(
    runs: RunCache, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = runs("joint").folder
    assert main(["export", "--to", "onnx", str(folder)]) == 0
    files = [folder / "export" / f"seed_{seed}.onnx" for seed in (4, 5, 6)]
    assert all(path.is_file() for path in files)
    outputs, messages = capfd.readouterr()
    assert outputs.split() == [str(path) for path in files]
    assert len(messages.splitlines()) <= 1  # the notice that torch is being loaded
    contents = {path.read_bytes() for path in files}
    assert len(contents) == 3
    assert main(["export", "--to", "onnx", str(folder), "--seed", "6"]) == 2
    assert "seed_6.onnx already exists. Add --overwrite, or choose another --output" in capfd.readouterr().err
    files[2].write_bytes(b"")
    assert main(["export", "--to", "onnx", "--seed", "6", str(folder), "--overwrite"]) == 0
    assert files[2].read_bytes() in contents  # the same bytes again
    assert pairs_lit.Run.load(folder).rounds


def test_the_file_of_one_round_can_be_chosen(runs: RunCache, tmp_path: Path) -> None:
    path = tmp_path / "new" / "mine.safetensors"
    assert pairs_lit.export(runs("joint").folder, "state_dict", [4], output=path) == [path]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "3"], r"no round of seed 3 in this run: it has seeds 4 to 6"),
        (["--seed", "a"], r"--seed must be a seed such as 3, a list such as 3,4,7, or all, got a"),
        (["--output", "x.onnx"], r"--output must be a folder for 3 rounds, got the file .*x\.onnx"),
        (["--seed", "4", "--output", "x.pt2"], r"or a file ending in \.onnx for --to onnx, got .*x\.pt2"),
    ],
)
def test_contradictory_arguments_are_rejected(
    options: list[str], message: str, runs: RunCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(runs("joint").folder)
    with pytest.raises(PairsLitError, match=message):
        run(["--to", "onnx", *options, folder])
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_rejected(runs: RunCache) -> None:
    with pytest.raises(PairsLitError, match=r"to must be one of 'onnx', 'torch', 'state_dict', got 'pickle'"):
        pairs_lit.export(runs("joint"), "pickle")  # type: ignore[arg-type]


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("branching", r"seed 5: torch\.export cannot trace the network \(.*user_parts\.py:64\).*Use --to state_dict"),
        ("random", r"seed 5: the exported network gives other outputs for 3 pairs: the network draws random numbers"),
    ],
)
@pytest.mark.quick(1)
def test_a_network_that_cannot_be_exported_is_reported_and_leaves_no_file(
    to: str, case: str, message: str, runs: RunCache, tmp_path: Path
) -> None:
    with pytest.raises(PairsLitError, match=message) as caught:
        pairs_lit.export(runs(case), to, 5, output=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named(runs: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(PairsLitError, match=r"--to onnx needs onnxruntime\. Run: pip install 'pairs-lit\[export\]'"):
        pairs_lit.export(runs("joint"), "onnx")


def predictions_equal_the_export(folder: Path, tmp_path: Path) -> int:
    """Compare ``predictions.csv`` with ONNX Runtime's outputs for the same pairs; return the number of pairs."""
    assert main(["predict", "--config", f"{folder}/config.yaml", "--ckpt_path", f"{folder}/checkpoints/last.ckpt"]) == 0
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    trained = pairs_lit.Run.load(folder).trained
    bank = trained.data.bank
    images = bank.gather_images(bank.pairs["test"].index[:1], slice(0, 1))[0]  # the first seed's, as predict shows them
    for path, seed in zip(pairs_lit.export(folder, "onnx", output=tmp_path / "out"), trained.seeds, strict=True):
        outputs, *_ = InferenceSession(path).run(None, {"pairs": images.numpy()})
        np.testing.assert_allclose(outputs, [float(row[f"seed_{seed}"]) for row in rows], atol=1e-5, rtol=0)
    return len(rows)


@pytest.mark.slow
def test_onnx_and_predict_agree_on_a_thousand_pairs_of_bundled_digits(tmp_path: Path) -> None:
    options = {**SMALL, "trainer.default_root_dir": tmp_path, "data.test_pairs": 1000, "trainer.max_epochs": 3}
    assert predictions_equal_the_export(pairs_lit.fit("cnn_aux", options).folder, tmp_path) == 1000


@pytest.mark.slow
def test_onnx_and_predict_agree_on_a_thousand_pairs_of_mnist(mnist_root: Path, tmp_path: Path) -> None:
    options = {**SMALL, "data.source": "mnist", "data.root": mnist_root, "data.test_pairs": 1000}
    options |= {"trainer.default_root_dir": tmp_path}
    assert predictions_equal_the_export(pairs_lit.fit("cnn_aux", options).folder, tmp_path) == 1000

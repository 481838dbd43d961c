"""Changed code is detected after a fit, in whatever file or default argument, and unchanged code is accepted."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import CNN, FC
from pairs_lit.nn.code_files import CodeFiles
from pairs_lit.nn.heads import MLP
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.training.behaviour import FixedPairs, find_difference, observe_stack
from pairs_lit.training.code_check import CODE_KEY, extract_variant_record, is_valid_record
from pairs_lit.training.losses import LossParts, PairLoss
from pairs_lit.training.module import PairModule
from pairs_lit.variants.module import VariantsModule
from tests.conftest import CONFIGS

NETS = """
import torch
from torch import nn
from torch.nn import functional as F

from changed_helpers import SCALE, activation


class Small(nn.Module):
    def __init__(self, width=12, slope=0.5, p=0.2):
        super().__init__()
        self.first, self.second = nn.Linear(196, width), nn.Linear(width, 10)
        self.slope, self.p = slope, p

    def forward(self, x):
        hidden = activation(self.first(x.flatten(1))) * self.slope * SCALE
        return self.second(F.dropout(hidden, self.p, self.training))


class Head(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, x):
        return self.layer(torch.tanh(x))
"""
HELPERS = """
import torch

SCALE = 1.0


def activation(x):
    return torch.relu(x)
"""
MODULES = ("changed_nets", "changed_helpers")
CHANGED_BEHAVIOUR = r"changed_nets\.py does not compute what it did in the fit"


def write_code(nets: str = NETS, helpers: str = HELPERS) -> None:
    """Write the user's files, to be imported again as in a new process."""
    Path("changed_nets.py").write_text(nets, encoding="utf-8")
    Path("changed_helpers.py").write_text(helpers, encoding="utf-8")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of a user's network and head."""
    root = tmp_path_factory.mktemp("changed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(str(root))
        write_code()
        options = (
            f"--model.backbone changed_nets.Small --model.head changed_nets.Head --data.root {tiny_root} "
            "--data.source mnist --data.allow_unverified true --data.train_pairs 60 --data.val_pairs 20 "
            "--data.test_pairs 30 --data.batch_size 16 --rounds.count 2 --trainer.max_epochs 1 "
            "--trainer.enable_progress_bar false"
        )
        assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options.split()]) == 0
        for name in ("left", "right"):
            pixels = np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)
            Image.fromarray(pixels).save(f"{name}.png")
        (run,) = root.glob("lightning_logs/*/*")
        yield run
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, with the original code."""
    write_code()
    return Path(shutil.copytree(trained, tmp_path / "run"))


Command = Callable[[Path], list[str]]
COMMANDS: dict[str, Command] = {
    "test": lambda run: ["test", str(run)],
    "validate": lambda run: ["validate", str(run)],
    "predict": lambda run: ["predict", str(run)],
    "fit": lambda run: ["fit", str(run), "--trainer.max_epochs", "2"],
    "apply": lambda run: ["apply", str(run), "left.png", "right.png", "--as-is"],
    "inspect": lambda run: ["inspect", str(run)],
    "export": lambda run: ["export", str(run), "--to", "state_dict"],
    "demo": lambda run: ["demo", str(run), "--no-browser"],
}


@dataclass(frozen=True)
class Change:
    """The texts of both files after a change."""

    nets: str = NETS
    helpers: str = HELPERS


CHANGES = {
    "an activation in an imported function": Change(helpers=HELPERS.replace("relu", "tanh")),
    "a constant that is imported": Change(helpers=HELPERS.replace("1.0", "1.02")),
    "a default argument": Change(NETS.replace("slope=0.5", "slope=0.51")),
    "a head": Change(NETS.replace("torch.tanh", "torch.sin")),
    "a slightly leaky activation": Change(helpers=HELPERS.replace("torch.relu(x)", "x.clamp(min=0.01 * x)")),
    "the order of the digit logits": Change(NETS.replace("return self.second(", "return -self.second(")),
}
IN_TRAINING = {
    "a dropout probability": Change(NETS.replace("p=0.2", "p=0.3")),
    "a branch in training": Change(NETS.replace("SCALE\n", "SCALE * (1.1 if self.training else 1)\n")),
    "a detached gradient": Change(NETS.replace("x.flatten(1)", "x.flatten(1)").replace(
        "self.first(x.flatten(1))", "self.first(x.flatten(1)).detach()"
    )),
}  # fmt: skip
HARMLESS = {
    "comments and names": Change("# new\n" + NETS.replace("hidden", "h")),
    "another spelling of the same": Change(NETS.replace("x.flatten(1)", "x.reshape(x.shape[0], -1)")),
}


# --- changes that are detected, and changes that are accepted ---


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize(
    "command", [*(name for name in COMMANDS if name != "demo"), pytest.param("demo", marks=pytest.mark.slow)]
)
@pytest.mark.quick(5)
def test_changed_code_is_rejected_by_every_command(
    run: Path, capsys: pytest.CaptureFixture[str], command: str, change: Change
) -> None:
    if command in ("demo", "export"):
        pytest.importorskip({"demo": "gradio", "export": "safetensors"}[command])
    before = sorted(run.rglob("*"))
    write_code(change.nets, change.helpers)
    assert main(COMMANDS[command](run)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "changed_nets.py does not compute what it did in the fit" in line
    assert ("(changed_helpers.py changed)" in line) == (change.helpers != HELPERS)
    assert "Restore the code that the checkpoint was trained with, or train again" in line
    option = "--allow_changed_code true" if command in ("test", "validate", "predict", "fit") else "--allow-changed"
    assert option in line
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("change", IN_TRAINING.values(), ids=IN_TRAINING.keys())
@pytest.mark.quick(2)
def test_a_fit_cannot_be_resumed_with_code_that_differs_only_in_training(
    run: Path, capsys: pytest.CaptureFixture[str], change: Change
) -> None:
    write_code(change.nets, change.helpers)
    assert main(COMMANDS["fit"](run)) == 2
    assert "in training mode" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("change", IN_TRAINING.values(), ids=IN_TRAINING.keys())
@pytest.mark.parametrize("command", ["test", "apply"])
def test_other_commands_accept_code_that_differs_only_in_training(run: Path, command: str, change: Change) -> None:
    write_code(change.nets, change.helpers)
    assert main(COMMANDS[command](run)) == 0


@pytest.mark.parametrize("command", ["test", "fit", "apply", "predict", "validate", "inspect", "export"])
@pytest.mark.quick(1)
def test_unchanged_code_is_accepted_without_a_notice(
    run: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(COMMANDS[command](run)) == 0
    captured = capsys.readouterr()
    assert "since the fit" not in captured.err + captured.out


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
@pytest.mark.parametrize("command", ["fit", "test", "apply"])
@pytest.mark.quick(2)
def test_code_with_another_spelling_is_accepted(
    run: Path, capsys: pytest.CaptureFixture[str], command: str, change: Change
) -> None:
    write_code(change.nets, change.helpers)
    assert main(COMMANDS[command](run)) == 0
    message = "changed_nets.py has changed since the fit, but its networks compute the same for a few fixed images"
    assert (message in capsys.readouterr().err) == ("reshape" in change.nets)


def test_another_release_of_torch_is_not_a_change(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    code = checkpoint[CODE_KEY]
    code["environment"]["torch"], code["calls"] = "2.0.0", [["0" * 16] * 2]
    for mode in ("evaluation", "training"):
        for value in code[mode].values():
            value *= 1 + 3e-4  # far more than rounding
    torch.save(checkpoint, last)
    assert main(COMMANDS["fit"](run)) == 0
    assert "changed since" not in capsys.readouterr().err


def test_failed_rounds_are_not_compared(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for mode in ("evaluation", "training"):
        for value in checkpoint[CODE_KEY][mode].values():
            value[1] = torch.nan
    torch.save(checkpoint, last)
    assert main(COMMANDS["test"](run)) == 0


def test_a_checkpoint_of_an_earlier_release_is_not_checked(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint[CODE_KEY]
    torch.save(checkpoint, last)
    write_code(helpers=HELPERS.replace("relu", "tanh"))
    assert main(COMMANDS["test"](run)) == 0


def test_error_for_a_changed_layer_names_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_code(NETS.replace("self.slope, self.p", "self.extra = nn.Identity()\n        self.slope, self.p"))
    assert main(COMMANDS["test"](run)) == 2
    assert "if changed_nets.py changed since the fit, restore it, or continue with --allow_changed_code true" in (
        capsys.readouterr().err
    )
    assert main([*COMMANDS["test"](run), "--allow_changed_code", "true"]) == 0
    assert "The network's code has changed since the fit." in capsys.readouterr().out


def test_error_for_code_that_cannot_be_stacked_names_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_code(NETS.replace("x.flatten(1)", "x.flatten(1) if x.sum() > 0 else x.flatten(1)"))
    assert main(COMMANDS["test"](run)) == 2
    assert "if changed_nets.py changed since the fit, restore it" in capsys.readouterr().err


# --- results with changed code carry a note ---

NOTE = "the network's code has changed since the fit"


@pytest.fixture
def tanh(run: Path) -> Path:
    """The run, after which the code was changed."""
    write_code(helpers=HELPERS.replace("relu", "tanh"))
    return run


@pytest.mark.parametrize(("command", "table"), [("test", "test"), ("validate", "validate"), ("predict", "predictions")])
@pytest.mark.quick(2)
def test_tables_carry_the_note(tanh: Path, capsys: pytest.CaptureFixture[str], command: str, table: str) -> None:
    assert main([command, str(tanh), "--allow_changed_code", "true"]) == 0
    captured = capsys.readouterr()
    assert "The network's code has changed since the fit." in captured.out
    assert "changed_nets.py does not compute what it did in the fit (changed_helpers.py changed)" in captured.err
    with (tanh / f"{table}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["note"] for row in rows} == {NOTE}
    assert "allow_changed_code" not in (tanh / "config.yaml").read_text()


@pytest.mark.parametrize("style", ["text", "csv", "json"])
@pytest.mark.quick(2)
def test_results_of_apply_carry_the_note(tanh: Path, capsys: pytest.CaptureFixture[str], style: str) -> None:
    run = pairs_lit.Run.load(tanh, allow_changed_code=True)
    applied = run.apply([("left.png", "right.png")], as_is=True)
    assert applied.note == NOTE
    if style == "text":
        assert main([*COMMANDS["apply"](tanh), "--allow-changed-code", "--format", style]) == 0
        assert str(applied).endswith("The network's code has changed since the fit.")
    from pairs_lit.inference.result_formats import format_result

    assert "code has changed since the fit" in format_result(applied, style)  # type: ignore[arg-type]


def test_the_figure_of_apply_carries_the_note(tanh: Path) -> None:
    from pairs_lit.inference.result_figure import draw_result

    applied = pairs_lit.Run.load(tanh, allow_changed_code=True).apply([("left.png", "right.png")], as_is=True)
    title = draw_result(applied)._suptitle  # type: ignore[attr-defined] # matplotlib has no public attribute for it
    assert NOTE in title.get_text()


@pytest.mark.slow
def test_the_demo_carries_the_note(tanh: Path) -> None:
    pytest.importorskip("gradio")
    command = [sys.executable, "-m", "pairs_lit", "demo", str(tanh), "--no-browser", "--allow-changed-code"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[0]  # type: ignore[union-attr] # it is a pipe
        with urllib.request.urlopen(address) as page:
            text = page.read().decode()
        process.send_signal(signal.SIGINT)
    assert "code has changed since the fit" in text


@pytest.mark.slow
def test_the_report_of_inspect_carries_the_note(tanh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tanh), "--allow-changed-code"]) == 0
    assert NOTE in capsys.readouterr().out
    assert "code has changed since the fit" in (tanh / "inspect" / "report.md").read_text()


def test_exported_files_carry_the_note(tanh: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    assert main([*COMMANDS["export"](tanh), "--allow-changed-code"]) == 0
    with safetensors.safe_open(tanh / "export" / "seed_0.safetensors", "pt") as file:
        assert file.metadata()["note"] == NOTE


def test_a_fit_resumed_with_changed_code_carries_the_note_for_good(
    tanh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMANDS["fit"](tanh), "--allow_changed_code", "true"]) == 0
    assert "The network's code changed during the fit (after epoch 1)." in capsys.readouterr().out
    assert json.loads((tanh / "summary.json").read_text())["code_changed_after_epochs"] == [1]
    assert main(COMMANDS["test"](tanh)) == 0  # its checkpoint was written by the present code
    assert "The network's code changed during the fit (after epoch 1)." in capsys.readouterr().out
    assert main(["fit", str(tanh), "--trainer.max_epochs", "3"]) == 0
    assert json.loads((tanh / "summary.json").read_text())["code_changed_after_epochs"] == [1]


@pytest.mark.slow
def test_a_sweep_does_not_compare_trials_of_changed_code(run: Path, tmp_path: Path) -> None:
    """A sweep with changed code reports finished trials, but does not compare them with new ones."""
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"ckpt_path": None}
    changes = {"trainer.default_root_dir": str(tmp_path)}

    def search(*weights: float) -> pairs_lit.Sweep:
        spec = {"space": {"model.loss.aux_weight": list(weights)}, "rounds": {"count": 2}}
        return pairs_lit.sweep(config, spec, changes)

    search(0.5)
    write_code(helpers=HELPERS.replace("relu", "tanh"))
    assert len(search(0.5).trials) == 1
    with pytest.raises(
        PairsLitError, match=rf"{CHANGED_BEHAVIOUR}.* cannot be compared with new ones\. Restore the code, or give"
    ):
        search(0.5, 2.0)
    write_code(helpers=f"{HELPERS}# as before")
    assert len(search(0.5, 2.0).trials) == 2


def test_error_in_python_names_the_python_option(tanh: Path) -> None:
    with pytest.raises(PairsLitError, match=CHANGED_BEHAVIOUR):
        _ = pairs_lit.Run.load(tanh).trained
    with pytest.raises(PairsLitError, match=r"allow_changed_code=True\) continues anyway"):
        pairs_lit.open_run(tanh)
    assert pairs_lit.open_run(tanh, allow_changed_code=True).note == NOTE
    assert PairModule.load_from_checkpoint(tanh / "checkpoints" / "last.ckpt", allow_changed_code=True).code.has_changed


# --- observed values ---


class Louder(PairLoss):
    """A loss with changed code, but with the name and the settings of the usual loss."""

    def __call__(self, comparison: PairOutput, digits: torch.Tensor, target: torch.Tensor) -> LossParts:
        parts = super().__call__(comparison, digits, target)
        return parts._replace(target=parts.target * 1.1)


Louder.__qualname__ = "PairLoss"
ARGUMENTS = {"seeds": [3, 4, 5], "head": MLP, "image_size": 14}


def build_module(**changes: object) -> PairModule:
    return PairModule(**(ARGUMENTS | {"backbone": FC} | changes))  # type: ignore[arg-type]


def build_record(of: PairModule) -> dict[str, object]:
    return of.code.build_record(of.code.observe_stacks(range(len(of.stacks)), "unit"))


def test_a_changed_loss_matters_only_where_losses_are_computed() -> None:
    before, now = build_record(build_module()), build_module(loss=Louder())
    assert repr(Louder()) == repr(PairLoss())
    for stage in ("fit", "validate", "test"):
        with pytest.raises(PairsLitError, match=r"the losses of seed [345] for fixed images differ"):
            now.code.check(before, "unit", 0, stage=stage)
    for stage in ("predict", None):
        now.code.check(before, "unit", 0, stage=stage)


def test_another_configured_loss_is_not_changed_code() -> None:
    build_module(loss=PairLoss(target_weight=2.0)).code.check(build_record(build_module()), "unit", 0, stage="fit")


NETWORKS = {
    "dense": {},
    "separate": {"sharing": "separate", "readout": "linear"},
    "joint": {"sharing": "joint"},
    "members": {"members": 2},
    "batch norm and dropout": {"backbone": lambda shape: FC(shape, widths=[8], batch_norm=True, dropout=0.3)},
    "a loop": {"backbone": lambda shape: Looped()},
    "stacks": {"stack_size": 2},
}


class Looped(nn.Module):
    """Counts its calls and draws random numbers, so it runs as copies in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.calls = nn.Linear(196, 5), nn.BatchNorm1d(5), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        code: torch.Tensor = self.norm(self.layer(x.flatten(1)))
        return code + torch.randn_like(code) * self.training


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS.keys())
@pytest.mark.quick(3)
def test_observing_is_reproducible_and_changes_nothing(changes: dict[str, object]) -> None:
    observed = build_module(**changes)
    state = {name: value.clone() for name, value in observed.state_dict().items()}
    calls = [part.calls for part in observed.modules() if isinstance(part, Looped)]
    clock, rng_state = vars(observed.pair_stacks[0].clock).copy(), torch.get_rng_state()
    first = build_record(observed)
    assert torch.equal(torch.get_rng_state(), rng_state)
    assert all(torch.equal(value, state[name]) for name, value in observed.state_dict().items())
    assert all(part.training for part in observed.stacks.modules())
    assert all(value.grad is None for value in observed.parameters())
    assert vars(observed.pair_stacks[0].clock) == clock
    assert [part.calls for part in observed.modules() if isinstance(part, Looped)] == calls
    for mode in ("evaluation", "training"):
        assert first[mode]
        for name, value in build_record(build_module(**changes))[mode].items():  # type: ignore[attr-defined]
            assert torch.equal(value, first[mode][name])  # type: ignore[index]
    assert is_valid_record(first, 3, 1)


@pytest.mark.slow
def test_rounds_in_stacks_of_any_size_agree() -> None:
    build_module(backbone=CNN).code.check(
        build_record(build_module(backbone=CNN, stack_size=1)), "unit", 0, stage="fit"
    )


def test_the_record_of_a_variant_equals_that_of_a_separate_fit(capsys: pytest.CaptureFixture[str]) -> None:
    separate = [build_module(loss=PairLoss(target_weight=weight), readout="linear") for weight in (1.0, 2.0)]
    record = build_record(VariantsModule([single.variant for single in separate], [3, 4, 5], None))
    assert is_valid_record(record, 6, 2)
    for number, single in enumerate(separate):
        part = extract_variant_record(record, number, 2)
        single.code.check(part, "unit", 0, stage="fit")
        assert {name: part[name] for name in ("calls", "losses")} == {
            name: build_record(single)[name] for name in ("calls", "losses")
        }
    assert "since the fit" not in capsys.readouterr().err
    other = extract_variant_record(record, 1, 2) | {"losses": build_record(separate[0])["losses"]}
    with pytest.raises(PairsLitError, match="does not compute what it did"):
        separate[0].code.check(other, "unit", 0, stage="fit")


class Restless(nn.Module):
    """Gives another output each time, since it has its own random generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.random = nn.Linear(196, 5), np.random.default_rng(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code: torch.Tensor = self.layer(x.flatten(1))
        return code * (1 + float(self.random.random()))


def test_a_network_that_is_not_deterministic_is_not_checked() -> None:
    record = build_record(build_module(backbone=lambda shape: Restless()))
    assert record["evaluation"] == {}
    with pytest.raises(PairsLitError, match="its outputs could not be recorded in the fit, since each evaluation gave"):
        build_module().code.check(record, "unit", 0, stage="test")
    build_module(backbone=lambda shape: Restless()).code.check(record, "unit", 0, stage="fit")


def test_nothing_is_observed_if_the_network_fails_on_the_fixed_pairs() -> None:
    failing = build_module()
    loss = PairLoss()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(failing.stacks[0]), "forward", lambda self, images: 1 / 0)
        assert observe_stack(failing.pair_stacks[0], loss, 3, FixedPairs(7, "unit", 10), training=False) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        ([1.0, 2.0], [1.0, 2.0019], False),
        ([1.0, 2.0], [1.0, 2.0025], True),
        ([0.0, 1e-5], [5e-5, 0.0], False),
        ([1.0, torch.nan], [1.0, 7.0], False),
        ([1.0, 2.0], [1.0, torch.nan], True),
        ([1.0, torch.inf], [1.0, torch.inf], False),
    ],
)
def test_rounding_is_not_a_difference(before: list[float], now: list[float], differs: bool) -> None:
    earlier, present = torch.tensor([before, [0.0, 0.0]]), torch.tensor([now, [0.0, 0.0]])
    assert (find_difference("output", earlier, present, 1e-7) is not None) == differs


def test_tolerance_depends_on_the_precision() -> None:
    earlier, present = torch.tensor([[1.0]]), torch.tensor([[1.05]])
    assert find_difference("output", earlier, present, torch.finfo(torch.bfloat16).eps) is None
    assert find_difference("output", earlier, present, torch.finfo(torch.float32).eps) is not None


def test_another_number_of_outputs_is_a_difference() -> None:
    assert find_difference("output", torch.zeros(2, 3), torch.zeros(2, 4), 1e-7) is not None
    assert find_difference("output", torch.zeros(2, 3), None, 1e-7) is not None


# --- files ---


def test_code_files_include_imported_files(trained: Path) -> None:
    write_code()
    import changed_nets  # type: ignore[import-not-found] # written above

    files = CodeFiles.find([changed_nets.Small])
    assert files.part_file_names == "changed_nets.py"
    assert sorted(files.digests) == ["changed_helpers", "changed_nets"]
    assert CodeFiles.find(["changed_nets.Small", {"a": [nn.Linear]}]).part_file_names == "changed_nets.py"
    assert CodeFiles.find([FC, nn.Linear]).part_file_names == ""
    assert files.format_changed(files.digests) == ""
    assert files.format_changed({"changed_nets": "other"}) == "changed_nets.py"
    source = files.paths["changed_nets"]
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))  # as git may do on Windows
    assert CodeFiles.find([changed_nets.Small]).digests == files.digests


@pytest.mark.usefixtures("trained")
def test_imports_are_found_in_a_file_with_an_invalid_escape_sequence() -> None:
    write_code()
    import changed_nets

    Path("changed_nets.py").write_text(f'DIGITS = "\\d+"\n{NETS}', encoding="utf-8")  # Python 3.12 and later warn of it
    assert sorted(CodeFiles.find([changed_nets.Small]).digests) == ["changed_helpers", "changed_nets"]


# --- damaged records ---


@pytest.fixture(scope="module")
def whole() -> PairModule:
    """A module of two rounds, whose record the tests damage."""
    return build_module(seeds=[0, 1])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ((), None),
        ((), {}),
        (("evaluation",), []),
        (("evaluation",), {"more": torch.zeros(2, 3)}),
        (("evaluation", "output"), torch.zeros(3, 3)),
        (("evaluation", "output"), torch.zeros(2, 3, dtype=torch.int64)),
        (("evaluation", "output"), torch.zeros(2, 1).expand(2, 10**9)),
        (("evaluation", "output"), "x"),
        (("training", "gradients"), torch.zeros(())),
        (("calls",), [["a"]]),
        (("losses",), [1]),
        (("files",), {"a": 1}),
        (("files",), {1: "a"}),
        (("environment", "torch"), None),
        (("precision",), float("nan")),
        (("precision",), 2.0),
        (("changes",), [-1]),
        (("changes",), ["\x1b[2J"]),
    ],
)
def test_a_damaged_record_is_rejected(whole: PairModule, place: tuple[str, ...], value: object) -> None:
    record: dict[str, object] = {CODE_KEY: build_record(whole)}
    inner = record
    for name in (CODE_KEY, *place)[:-1]:
        inner = inner[name]  # type: ignore[assignment]
    inner[(CODE_KEY, *place)[-1]] = value
    with pytest.raises(PairsLitError, match="the checkpoint is damaged or does not fit: its record of the code is not"):
        whole.code.check(record[CODE_KEY], "unit", 0, stage="test")


@pytest.mark.parametrize("normalise", [None, "other", []])
def test_an_invalid_normalisation_is_rejected(whole: PairModule, normalise: object) -> None:
    with pytest.raises(PairsLitError, match="its record of the code is not"):
        whole.code.check(build_record(whole), normalise, 0, stage="test")

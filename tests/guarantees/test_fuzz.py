"""Fuzzing of configurations: each either runs as configured, or ends in one short line that names the key."""

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pairs_lit.cli import main
from pairs_lit.runs.tables import read_rounds

QUICK = 15
SLOW = int(os.environ.get("PAIRS_LIT_FUZZ", "150"))
"""The number of configurations in each slow test; PAIRS_LIT_FUZZ=2000 is useful locally, but too slow for CI."""
LONGEST_MESSAGE = 500
FUZZ = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}

BASE: dict[str, Any] = {
    "trainer": {"max_epochs": 1, "enable_progress_bar": False},
    "data": {
        "source": "mnist",
        "allow_unverified": True,
        "train_pairs": 20,
        "val_pairs": 10,
        "test_pairs": 10,
        "batch_size": 8,
    },
    "rounds": {"count": 2},
    "model": {
        "backbone": {"class_path": "pairs_lit.nn.backbones.FC", "init_args": {"widths": [6, 10]}},
        "head": {"class_path": "pairs_lit.nn.heads.MLP", "init_args": {"hidden": [4]}},
        "readout": "identity",
        "loss": {"digits": "ce", "aux_weight": 0.5},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}},
    },
}
"""A small fit that works."""

# Values that the typed options accept and some that they reject; the large numbers stand for typing errors.
COUNTS = st.sampled_from([-1, 0, 1, 2, 3, 7, 10**12])
SMALL = st.sampled_from([-1, 0, 1, 2, 3, 7])
RATES = st.sampled_from([-1.0, 0.0, 1e-3, 0.5, 1.0, 1e30, float("inf"), float("nan")])
FLAGS = st.booleans()
NOTHING = st.none()
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.integers(-2, 5), max_size=3),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(), max_size=2),
)
WIDTHS = st.lists(st.sampled_from([-1, 0, 1, 5, 10]), max_size=3)
BACKBONES = st.sampled_from(["FC", "CNN", "TorchModule", "Nope"]).map("pairs_lit.nn.backbones.{}".format)
HEADS = st.sampled_from(["MLP", "SoftmaxHead", "PowerHead", "ArgmaxHead", "Nope"]).map("pairs_lit.nn.heads.{}".format)
OPTIMIZERS = st.sampled_from(["SGD", "Adam", "AdamW", "RMSprop", "LBFGS", "Rprop", "Nope"]).map("torch.optim.{}".format)
SCHEDULERS = st.sampled_from(["StepLR", "CosineAnnealingLR", "ExponentialLR", "ReduceLROnPlateau", "LambdaLR"]).map(
    "torch.optim.lr_scheduler.{}".format
)
PLACES = st.sampled_from(["maps", "hidden", "code", "x"])
ACTIVATIONS = st.sampled_from(["relu", "tanh", "gelu", "none", "softmax", "swish"])
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "trainer.max_epochs": SMALL | NOTHING,
    "trainer.min_epochs": SMALL | NOTHING,
    "trainer.precision": st.sampled_from(["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", 16, "8"]),
    "trainer.gradient_clip_val": RATES | NOTHING,
    "trainer.gradient_clip_algorithm": st.sampled_from(["value", "norm", "sum"]),
    "trainer.accumulate_grad_batches": SMALL,
    "trainer.deterministic": FLAGS | st.just("warn"),
    "trainer.benchmark": FLAGS,
    "trainer.inference_mode": FLAGS,
    "trainer.accelerator": st.sampled_from(["cpu", "auto", "gpu", "tpu", "x"]),
    "trainer.devices": st.sampled_from([0, 1, 2, "auto", -1]),
    "trainer.strategy": st.sampled_from(["auto", "ddp", "ddp_spawn", "fsdp", "deepspeed", "x"]),
    "trainer.num_nodes": SMALL,
    "trainer.limit_train_batches": RATES | SMALL,
    "trainer.limit_test_batches": RATES | SMALL,
    "trainer.log_every_n_steps": SMALL,
    "trainer.enable_model_summary": FLAGS,
    "trainer.enable_checkpointing": FLAGS,
    "trainer.detect_anomaly": FLAGS,
    "trainer.barebones": FLAGS,
    "trainer.sync_batchnorm": FLAGS,
    "trainer.use_distributed_sampler": FLAGS,
    "trainer.reload_dataloaders_every_n_epochs": SMALL,
    "trainer.max_time": st.sampled_from(["00:00:00:01", "soon"]) | NOTHING,
    "trainer.logger": FLAGS | NOTHING,
    "data.source": st.sampled_from(["mnist", "digits", "kmnist"]),
    "data.relation": st.sampled_from(["le", "lt", "ge", "gt", "eq"]),
    "data.train_pairs": COUNTS,
    "data.val_pairs": COUNTS,
    "data.test_pairs": COUNTS,
    "data.batch_size": COUNTS,
    "data.eval_batch_size": COUNTS,
    "data.image_size": st.sampled_from([14, 28, 20, 0]),
    "data.swap": st.sampled_from(["none", "relabel", "flip", "both"]),
    "data.normalise": st.sampled_from(["raw", "unit", "standard", "z"]),
    "data.reuse": FLAGS,
    "data.allow_unverified": FLAGS,
    "rounds.count": COUNTS,
    "rounds.seed": st.sampled_from([-1, 0, 7, 2**32 - 2, 2**32]),
    "rounds.stack_size": COUNTS | NOTHING,
    "model.backbone.class_path": BACKBONES,
    "model.backbone.init_args.widths": WIDTHS,
    "model.backbone.init_args.channels": WIDTHS,
    "model.backbone.init_args.kernels": SMALL | WIDTHS,
    "model.backbone.init_args.pools": SMALL | WIDTHS,
    "model.backbone.init_args.dropout": RATES,
    "model.backbone.init_args.activation": ACTIVATIONS,
    "model.backbone.init_args.batch_norm": FLAGS | st.lists(PLACES, max_size=2),
    "model.head.class_path": HEADS,
    "model.head.init_args.hidden": WIDTHS,
    "model.head.init_args.outputs": SMALL,
    "model.head.init_args.dropout": RATES,
    "model.head.init_args.exponent": RATES,
    "model.sharing": st.sampled_from(["shared", "separate", "joint", "none"]),
    "model.readout": st.sampled_from(["identity", "linear", "none", "x"]),
    "model.code_activation": ACTIVATIONS,
    "model.loss.target": st.sampled_from(["bce", "ce", "mse", "none", "l1"]),
    "model.loss.digits": st.sampled_from(["ce", "mse", "none", "l1"]),
    "model.loss.aux_weight": RATES,
    "model.loss.target_weight": RATES,
    "model.loss.digit_reduction": st.sampled_from(["sum", "mean", "max"]),
    "model.optimizer.class_path": OPTIMIZERS,
    "model.optimizer.init_args.lr": RATES,
    "model.optimizer.init_args.momentum": RATES,
    "model.optimizer.init_args.betas": st.lists(RATES, max_size=3),
    "model.lr_scheduler": SCHEDULERS.map(lambda name: {"class_path": name, "init_args": {"step_size": 1}})
    | SCHEDULERS.map(lambda name: {"class_path": name})
    | NOTHING,
    "name": st.sampled_from(["fine", "../up", "", "-x"]),
}  # fmt: skip
UNKNOWN = st.sampled_from(["nokey", "data.nokey", "model.nokey", "rounds.nokey", "trainer.nokey", "model.loss.nokey"])
Change = tuple[str, Any]


def one_change() -> st.SearchStrategy[Change]:
    """Draw a valid or invalid value for a known option, or an option that does not exist."""
    typed = st.sampled_from(sorted(TYPED)).flatmap(lambda key: st.tuples(st.just(key), TYPED[key]))
    odd = st.tuples(st.sampled_from(sorted(TYPED)), ODD)
    return st.one_of(typed, typed, typed, odd, st.tuples(UNKNOWN, ODD)).filter(has_an_end)


def has_an_end(change: Change) -> bool:
    """Return whether the fit is short; valid changes that would train for hours are left out."""
    key, value = change
    return key != "trainer.max_epochs" or not isinstance(value, int) or value <= 7


def changed(changes: list[Change]) -> dict[str, Any]:
    """Return the config of the small fit with some options changed."""
    config = copy.deepcopy(BASE)
    for key, value in changes:
        *sections, last = key.split(".")
        place = config
        for section in sections:
            inner = place.get(section)
            if not isinstance(inner, dict):
                inner = place[section] = {}
            place = inner
        place[last] = value
    return config


Run = Callable[[str], tuple[int, list[str], Path]]


@pytest.fixture
def run(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that fits a config given as text.

    It returns the exit code, the lines of the error stream and the folder of the runs.
    """

    def fitted(text: str) -> tuple[int, list[str], Path]:
        folder = tmp_path_factory.mktemp("fuzz")
        file = folder / "config.yaml"
        file.write_text(text, encoding="utf-8")
        capsys.readouterr()
        data = ["--data.root", str(tiny_root), "--trainer.default_root_dir", str(folder / "runs")]
        code = main(["fit", "--config", str(file), *data])
        return code, capsys.readouterr().err.splitlines(), folder / "runs"

    return fitted


def check_end(code: int, lines: list[str], runs: Path, changes: list[Change]) -> None:
    """Check that the fit left a complete run with the requested config, or one line of error and no run."""
    unknown = [key for key, _ in changes if key.endswith("nokey")]
    run_folders = list(runs.glob("lightning_logs/*/*"))
    if code == 0:
        assert not unknown
        (folder,) = run_folders
        assert read_rounds(folder / "rounds.csv")
        check_obeyed(yaml.safe_load((folder / "config.yaml").read_text()), dict(changes))
        return
    assert code == 2
    errors = [line for line in lines if line.startswith("pairs-lit: error: ")]
    assert len(errors) == 1, lines
    assert lines[-1] == errors[0], lines
    assert len(errors[0]) < LONGEST_MESSAGE, lines
    assert not run_folders
    if len(changes) == 1:
        key = changes[0][0].removesuffix(".class_path").replace(".init_args", "")
        *_, section, last = ["", *key.split(".")]
        assert last in errors[0] or section in errors[0], (changes, errors)


def check_obeyed(config: dict[str, Any], changes: dict[str, Any]) -> None:
    """Check that the config of the run contains the requested values, unless a later change replaced them."""
    for key, value in changes.items():
        place: Any = config
        for section in key.split("."):
            place = place.get(section) if isinstance(place, dict) else None
        if isinstance(value, bool | int | str) and place is not None:
            assert str(place) == str(value) or float(place) == float(value), (key, value, place)


def typed_case(run: Run, changes: list[Change]) -> None:
    check_end(*run(yaml.safe_dump(changed(changes), allow_unicode=True)), changes)


CHANGES = st.lists(one_change(), min_size=1, max_size=3, unique_by=lambda change: change[0])


@given(changes=CHANGES)
@settings(max_examples=QUICK, **FUZZ)
def test_some_changes_of_a_config_end_well(run: Run, changes: list[Change]) -> None:
    typed_case(run, changes)


@given(changes=CHANGES)
@settings(max_examples=SLOW, **FUZZ)
@pytest.mark.slow
def test_many_changes_of_a_config_end_well(run: Run, changes: list[Change]) -> None:
    typed_case(run, changes)


TEXT = yaml.safe_dump(BASE)
EDITS = st.lists(
    st.tuples(
        st.integers(0, len(TEXT) - 1),
        st.integers(0, 8),
        st.text(st.sampled_from("abz019 :-_.,[]{}'\"#&*!|>%@\\\t\n\0\u00e9\u202e"), max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def edited(edits: list[tuple[int, int, str]]) -> str:
    text = TEXT
    for place, length, put in edits:
        text = text[:place] + put + text[place + length :]
    return text


def edited_case(run: Run, edits: list[tuple[int, int, str]]) -> None:
    epochs = re.search(r"max_epochs\W*(\d+)", edited(edits))
    assume(epochs is None or int(epochs[1]) <= 99)
    code, lines, runs = run(edited(edits))
    run_folders = list(runs.glob("lightning_logs/*/*"))
    if code == 0:
        assert read_rounds(run_folders[0] / "rounds.csv")
        return
    assert code == 2
    assert lines[-1].startswith("pairs-lit: error: ")
    assert len(lines[-1]) < LONGEST_MESSAGE
    assert len([line for line in lines if "error" in line]) == 1
    assert not run_folders


@given(edits=EDITS)
@settings(max_examples=QUICK, **FUZZ)
def test_some_slips_of_the_finger_in_a_config_end_well(run: Run, edits: list[tuple[int, int, str]]) -> None:
    edited_case(run, edits)


@given(edits=EDITS)
@settings(max_examples=SLOW, **FUZZ)
@pytest.mark.slow
def test_many_slips_of_the_finger_in_a_config_end_well(run: Run, edits: list[tuple[int, int, str]]) -> None:
    edited_case(run, edits)

"""Public Python API: ``pairs_lit.fit``, ``compare``, ``Run.load`` and the exported names."""

import re
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

import pairs_lit
from pairs_lit import Run
from pairs_lit.analysis.comparison_tests import MeasuredDifference
from pairs_lit.analysis.inspection.numbers import HardPair
from pairs_lit.runs.tables import read_curves
from pairs_lit.system.deprecation import RenamedAttribute
from tests.conftest import CONFIGS
from tests.support import real_world_parts


class Wide(nn.Sequential):
    """Backbone as a user would write it in a notebook."""

    def __init__(self, shape: tuple[int, int, int], width: int = 12) -> None:
        super().__init__(nn.Flatten(), nn.Linear(shape[1] * shape[2], width), nn.Tanh(), nn.Linear(width, 10))


@pytest.fixture
def changes(tiny_root: Path, tmp_path: Path) -> dict[str, object]:
    data = {"root": tiny_root, "source": "mnist", "allow_unverified": True, "batch_size": 16}
    sizes = {"train_pairs": 40, "val_pairs": 20, "test_pairs": 30}
    return {
        **{f"data.{name}": value for name, value in (data | sizes).items()},
        "rounds.count": 3,
        "trainer.max_epochs": 2,
        "trainer.default_root_dir": tmp_path,
    }


@pytest.fixture
def run(changes: dict[str, object]) -> Run:
    return pairs_lit.fit(CONFIGS / "fc_aux.yaml", changes)


def test_a_fit_returns_its_run_and_prints_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert capsys.readouterr().out == ""
    assert run.folder.parent.name == run.label == "fc_aux"
    assert [each.seed for each in run.rounds] == [0, 1, 2]
    assert run.summary["test_accuracy"].n == 3
    assert run.summary["test_accuracy"].mean == pytest.approx(sum(run.values("test_accuracy").values()) / 3)
    assert run.curves.epochs == 2
    assert run.failed == []
    assert run.config["rounds"]["count"] == 3
    assert run.facts.parameters == 2101
    assert run.data["source"] == "mnist (unverified)"


def test_a_run_can_be_loaded(run: Run) -> None:
    again = Run.load(str(run.folder))
    assert again == run
    assert again.curves.values["test/accuracy"].tolist() == run.curves.values["test/accuracy"].tolist()


def test_a_mapping_is_a_configuration(run: Run, changes: dict[str, object]) -> None:
    content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
    other = pairs_lit.fit(content, changes)
    assert other.label == "run"
    assert other.rounds == run.rounds


def test_the_command_line_gives_the_same(run: Run, changes: dict[str, object]) -> None:
    from pairs_lit.cli import main

    options = [f"--{name}={value}" for name, value in changes.items()]
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options]) == 0
    (other,) = set(run.folder.parent.iterdir()) - {run.folder}
    for name in ("rounds.csv", "curves.csv", "config.yaml"):
        assert (other / name).read_bytes() == (run.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "value", "at"),
    [
        ("model.backbone", Wide, ["model", "backbone", "class_path"]),
        ("model.loss.aux_weight", 0.25, ["model", "loss", "aux_weight"]),
        ("model.head.hidden", [7, 5], ["model", "head", "init_args", "hidden"]),
        ("rounds.stack_size", None, ["rounds", "stack_size"]),
        ("data.reuse", False, ["data", "reuse"]),
        ("name", "mine", ["name"]),
    ],
)
@pytest.mark.quick(3)
def test_changes_keep_their_values(name: str, value: object, at: list[str], changes: dict[str, object]) -> None:
    content: Any = pairs_lit.fit(CONFIGS / "fc_aux.yaml", changes | {name: value}).config
    for key in at:
        content = content[key]
    assert content == (f"{__name__}.Wide" if value is Wide else value)


def test_several_fits_from_threads(run: Run, changes: dict[str, object]) -> None:
    found: list[Run] = []

    def fit() -> None:
        found.append(pairs_lit.fit(CONFIGS / "fc_aux.yaml", changes))

    threads = [threading.Thread(target=fit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.rounds for each in found] == [run.rounds] * 2


def test_user_error_is_an_exception(changes: dict[str, object]) -> None:
    with pytest.raises(pairs_lit.PairsLitError, match=r"^rounds.count must be 1 or more, got 0\.$"):
        pairs_lit.fit(CONFIGS / "fc_aux.yaml", changes | {"rounds.count": 0})


def test_interrupt_raises_keyboard_interrupt(changes: dict[str, object], tmp_path: Path) -> None:
    class Interrupts(real_world_parts.Announces):
        def on_train_epoch_start(self, *_: object) -> None:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pairs_lit.fit(CONFIGS / "fc_aux.yaml", changes, [Interrupts()])
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_and_folders_are_compared(run: Run, changes: dict[str, object]) -> None:
    other = pairs_lit.fit(CONFIGS / "fc.yaml", changes)
    comparison = pairs_lit.compare([run, other])
    assert [each.label for each in comparison.runs] == ["fc_aux", "fc"]
    assert "fc_aux − fc" in str(comparison)
    assert str(pairs_lit.compare([str(run.folder), other.folder])) == str(comparison)
    with pytest.raises(pairs_lit.PairsLitError, match=r"metric must be one of train_accuracy, .*, got 'accuracy'"):
        pairs_lit.compare([run, other], "accuracy")


@pytest.mark.parametrize("name", pairs_lit.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(pairs_lit, name) is not None
    assert name in dir(pairs_lit)


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pairs_lit' has no attribute 'train'"):
        _ = pairs_lit.train  # type: ignore[attr-defined] # the name does not exist


def test_import_of_the_package_is_light() -> None:
    code = "import sys, pairs_lit; print(sorted({'torch', 'lightning', 'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_curves_are_those_of_the_table(run: Run) -> None:
    assert read_curves(run.folder / "curves.csv").seeds == run.curves.seeds == [0, 1, 2]


def test_a_former_module_works_with_a_warning() -> None:
    from pairs_lit.data.custom_dataset import load_custom_dataset

    sys.modules.pop("pairs_lit.data.own", None)
    with pytest.warns(DeprecationWarning, match=r"is now pairs_lit\.data\.custom_dataset\.load_custom_dataset"):
        from pairs_lit.data.own import load_own
    assert load_own is load_custom_dataset


FORMER_NAMES = {
    "pairs_lit.Answers": "pairs_lit.Predictions",
    "pairs_lit.Applied": "pairs_lit.ApplyResult",
    "pairs_lit.AveragedNetwork": "pairs_lit.RoundNetwork",
    "pairs_lit.Picture": "pairs_lit.ImageLike",
    "pairs_lit.Trained": "pairs_lit.TrainedRounds",
    "pairs_lit.analysis.comparison.Pair": "pairs_lit.analysis.comparison.PairwiseTest",
    "pairs_lit.inference.predictions.Applied": "pairs_lit.inference.predictions.ApplyResult",
    "pairs_lit.inference.trained_rounds.Answers": "pairs_lit.inference.trained_rounds.Predictions",
    "pairs_lit.inference.trained_rounds.Trained": "pairs_lit.inference.trained_rounds.TrainedRounds",
    "pairs_lit.inference.user_images.Picture": "pairs_lit.inference.user_images.ImageLike",
}


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_a_former_name_works_with_a_warning(former: str) -> None:
    present = FORMER_NAMES[former]
    (module, old), new = former.rsplit(".", 1), present.rsplit(".", 1)[1]
    with pytest.warns(DeprecationWarning, match=rf"{re.escape(former)} is now {re.escape(present)}\."):
        found = getattr(import_module(module), old)
    assert found is getattr(import_module(module), new)


@pytest.mark.parametrize("module", ["pairs_lit", "pairs_lit.analysis.comparison"])
def test_a_name_that_never_existed_is_an_error(module: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        import_module(module).Nothing  # noqa: B018 - reading it is the test


def test_a_former_attribute_works_with_a_warning() -> None:
    class Result:
        answers = RenamedAttribute("predict")

        def predict(self) -> int:
            return 3

    with pytest.warns(DeprecationWarning, match=r"Result\.answers is now Result\.predict\."):
        assert Result().answers() == 3


@pytest.mark.parametrize(
    ("cls", "former"),
    [
        (MeasuredDifference, "detectable"),
        (pairs_lit.Inspection, "said"),
        (pairs_lit.Sweep, "behind"),
        (pairs_lit.Sweep, "plateau"),
        (pairs_lit.TrainedRounds, "answers"),
        *((HardPair, name) for name in ("place", "right", "read", "wrong")),
    ],
)
def test_former_attributes_name_present_ones(cls: type, former: str) -> None:
    present = vars(cls)[former].new
    assert present in vars(cls) or present in cls.__dataclass_fields__

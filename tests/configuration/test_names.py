"""Names chosen by users: modules named like Python's, classes of a script, metrics, and files in a table of pairs."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.commands.apply import read_pairs
from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command
from pairs_lit.configuration.option_checks import report_main_classes
from pairs_lit.configuration.python_calls import python_api_context
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.run import Run
from pairs_lit.system.user_modules import describe_hidden_file
from tests.conftest import CONFIGS, Fit

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(196, 10))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for user files; modules imported from it are removed from ``sys.modules`` afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr("pairs_lit.system.user_modules._LOCAL_MODULE_FINDER.module_names", set())
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def read(option: str) -> object:
    with python_api_context():
        arguments = ["fit", f"--config={CONFIGS / 'fc_aux.yaml'}", option]
        return run_lightning_command("fit", arguments, kind=ParseOnlyCLI).config.fit.model


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("sched.py", "sched.Net"),
        ("code.py", "code.Net"),
        ("test.py", "test.Net"),
        ("test/__init__.py", "test.Net"),
        ("test/nets.py", "test.nets.Net"),
    ],
)
def test_user_file_named_like_a_python_module(
    file: str, path: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / file).parent.mkdir(exist_ok=True)
    (here / "test" / "__init__.py").touch() if "/" in file else None
    (here / file).write_text(NET)
    monkeypatch.delitem(sys.modules, path.partition(".")[0], raising=False)  # pytest has imported code
    assert read(f"--model.backbone={path}").backbone.init_args.builder == path  # type: ignore[attr-defined]
    module = sys.modules[path.rpartition(".")[0]]
    assert str(here) in str(module.__file__)


def test_python_module_is_kept_unless_the_user_file_defines_the_class(here: Path) -> None:
    """A user file is preferred only if it defines the name in a class path."""
    (here / "sched.py").write_text(NET)
    (here / "test.py").write_text(NET)
    read("--model.backbone=test.Net")
    assert importlib.import_module("sched").scheduler


@pytest.mark.parametrize("role", ["backbone", "network"])
def test_python_module_that_is_already_imported(role: str, here: Path) -> None:
    (here / "types.py").write_text(NET)
    message = (
        f"model.{role}: module 'types' has no attribute 'Net', got types.Net: Python's own module of this name was "
        "imported, not types.py. Rename the file"
    )
    with pytest.raises(PairsLitError, match=message):
        read(f"--model.{role}=types.Net")


def test_installed_module_that_is_already_imported(here: Path) -> None:
    (here / "yaml.py").touch()
    assert describe_hidden_file("yaml.Net").startswith(": an installed module of this name was imported, not yaml.py")
    assert describe_hidden_file("pathlib.Path") == ""


def test_dataset_in_a_file_named_like_a_python_module(here: Path, fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "types.py").touch()
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), "--data.source", "types.Set"]) == 2
    assert "Python's own module of this name was imported, not types.py" in capsys.readouterr().err


def test_class_defined_in_a_script_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        report_main_classes(
            {"model.backbone.init_args.builder": "__main__.Net", "model.head.class_path": "my_nets.Head"}
        )
    notices = capsys.readouterr().err
    assert notices.count("model.backbone is __main__.Net, which this script or notebook defines, so only it") == 1
    assert "move it to a separate file such as my_nets.py" in notices
    assert "Head" not in notices


def test_class_defined_in_another_script(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PairsLitError, match=r"it was defined in the training script\. Move it to a separate file"):
        read("--model.backbone=__main__.NoNet")


@pytest.mark.slow
def test_a_script_that_trains_its_own_class(tiny_root: Path, tmp_path: Path) -> None:
    options = {
        "data.source": "mnist", "data.root": str(tiny_root), "data.allow_unverified": True, "data.train_pairs": 40,
        "data.val_pairs": 20, "data.test_pairs": 30, "rounds.count": 2, "trainer.max_epochs": 1, "trainer.devices": 1,
    }  # fmt: skip
    fit = f'pairs_lit.fit("{CONFIGS / "fc_aux.yaml"}", {{"model.backbone": Net, **{options}}})'
    (tmp_path / "script.py").write_text(
        f"import pairs_lit\n{NET}\nif __name__ == '__main__':\n    print({fit}.folder)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.count("model.backbone is __main__.Net") == 1
    assert "fc_aux-Net" in done.stdout


def test_error_for_an_unknown_metric_lists_the_known_ones(fit: Fit) -> None:
    run = Run.load(fit("--rounds.count", "2", config="fc_aux"))
    with pytest.raises(PairsLitError, match=r"there is no 'unknown': use one of train_accuracy, .*, val_loss"):
        run.values("unknown")
    with pytest.raises(PairsLitError, match=r"no 'test_acuracy': did you mean test_accuracy\? use one"):
        run.values("test_acuracy")
    with pytest.raises(PairsLitError, match="there is no 'unknown': use one of train_accuracy"):
        run.summary["unknown"]
    with pytest.raises(PairsLitError, match="there is no 'unknown': use one of train/loss"):
        run.curves.values["unknown"]
    with pytest.raises(PairsLitError, match="there is no round of seed 7 in this run: it has seeds 0 to 1"):
        run.network(7)
    with pytest.raises(PairsLitError, match=r"metric must be one of train_accuracy, .*, got 'unknown'"):
        pairs_lit.compare([run, run], "unknown")
    assert run.values("val_all_accuracy") == {}  # data.all_pairs is not set
    assert set(run.values("best_test_epoch")) == {0, 1}


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('a.png, "b,1.png"\n', [("a.png", "b,1.png")]),
        ('"a,1.png", "b 2.png"\r\nc.png,d.png\r\n', [("a,1.png", "b 2.png"), ("c.png", "d.png")]),
        ('"a,1.png";b.png\n', [("a,1.png", "b.png")]),
        ('"a;1.png"\tb.png\n', [("a;1.png", "b.png")]),
        ('\ufeffleft, right\n\n"a ""x"".png", b.png', [('a "x".png', "b.png")]),
    ],
)
def test_quoted_names_in_a_table_of_pairs(text: str, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_bytes(text.encode())
    assert read_pairs(file) == [(tmp_path / left, tmp_path / right) for left, right in pairs]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.png,b.png\n# more\n", "line 2: expected two paths, left and right, got '# more'"),
        (b"a.png,b.png,\n", "line 1: expected two paths, left and right, got 'a.png,b.png,'"),
        (b'a.png,"b.png\nc.png,d.png\n' + b"x" * 200_000, "line .*: field larger than field limit"),
        ("a.png,b.png".encode("utf-16"), "it is not UTF-8 text"),
    ],
)
def test_a_table_of_pairs_that_cannot_be_read(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(PairsLitError, match=message):
        read_pairs(tmp_path / "pairs.csv")

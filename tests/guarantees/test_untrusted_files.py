"""Untrusted files: their code is never executed, their text cannot control a terminal, and damage is detected."""

import copy
import csv
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from pairs_lit.analysis.comparison import read_runs
from pairs_lit.checkpoints.schema import matches_schema
from pairs_lit.cli import main
from pairs_lit.runs.tables import RoundResult, write_rounds
from tests.conftest import CONFIGS, Fit

Damage = Callable[[Path, Path], None]


class Bomb:
    """Object that writes a marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self._marker, "executed")


def with_code(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    torch.save(checkpoint | {"callbacks": Bomb(marker)}, last)


def with_code_in_a_tensors_place(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    first = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][first] = Bomb(marker)
    torch.save(checkpoint, last)


def a_plain_pickle(last: Path, marker: Path) -> None:
    last.write_bytes(pickle.dumps(Bomb(marker)))


def with_an_instantiator(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    tampered = {"_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": "os.system"}
    torch.save(checkpoint | {"hyper_parameters": tampered, "hparams_name": "kwargs"}, last)


def truncated(last: Path, marker: Path) -> None:
    last.write_bytes(last.read_bytes()[:-1000])


def emptied(last: Path, marker: Path) -> None:
    last.write_bytes(b"")


def without_weights(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    torch.save(checkpoint | {"state_dict": {}}, last)


def with_weights_of_another_shape(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["state_dict"] = {name: value[..., :1] for name, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, last)


def with_a_flipped_bit(last: Path, marker: Path) -> None:
    content = bytearray(last.read_bytes())
    first = next(iter(torch.load(last, weights_only=True)["state_dict"].values()))
    content[content.index(first.numpy().tobytes())] ^= 1
    last.write_bytes(content)


def without_progress(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    torch.save(checkpoint | {"callbacks": {}}, last)


def with_a_terminals_command(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["pairs_lit"]["source"] = "\x1b[2J"
    torch.save(checkpoint, last)


def of_an_ancient_release(last: Path, marker: Path) -> None:
    checkpoint = torch.load(last, weights_only=True)
    torch.save(checkpoint | {"pytorch-lightning_version": "0.1.0"}, last)


WITH_CODE: list[Damage] = [with_code, with_code_in_a_tensors_place, a_plain_pickle]
DAMAGES: list[Damage] = [
    *WITH_CODE,
    with_an_instantiator,
    truncated,
    emptied,
    without_weights,
    with_weights_of_another_shape,
    with_a_flipped_bit,
    without_progress,
    with_a_terminals_command,
    of_an_ancient_release,
]
FORCED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
@pytest.mark.parametrize(
    ("damage", "force"), [*((each, None) for each in DAMAGES), *((each, FORCED) for each in WITH_CODE)]
)
@pytest.mark.quick(15)
def test_every_command_rejects_a_hostile_checkpoint(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    damage: Damage,
    force: str | None,
) -> None:
    if force is not None:
        monkeypatch.setenv(force, "1")
    last, marker = tmp_path / "last.ckpt", tmp_path / "marker"
    last.write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes())
    damage(last, marker)
    before = sorted(tmp_path.iterdir())
    assert main([command, "--config", str(trained / "config.yaml"), "--ckpt_path", str(last)]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert "checkpoint" in line or "--ckpt_path" in line
    assert captured.out == ""
    assert line.isprintable()
    assert sorted(tmp_path.iterdir()) == before
    assert not marker.exists()


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    options = (
        f"--data.root {tiny_root} --data.source mnist --data.allow_unverified true --data.train_pairs 40 "
        "--data.val_pairs 20 --data.test_pairs 30 --rounds.count 2 --trainer.max_epochs 1 "
        f"--trainer.default_root_dir {root} --trainer.enable_progress_bar false"
    )
    assert main(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options.split()]) == 0
    (run,) = root.glob("lightning_logs/*/*")
    return run


def places(value: object, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield every position in a nested value, as the names and indices that lead to it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield (*above, name)
        yield from places(each, (*above, name))


NOT_READ = {"param_groups", "lr_schedulers", "global_step", "commits", "run", "changes"}
"""Entries that are ignored, are taken from the config instead, or may be null or of any length."""

MAY_LACK: list[tuple[tuple[str | int, ...], object]] = [(("code", "training"), {})]
"""Entries that are empty for some networks."""

ANYTHING: list[object] = [None, -1, 10**18, "x", [], {}, 1.5, float("nan"), True, [1], {"a": 1}]
ANYTHING += [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(1).expand(1000)]


@pytest.mark.slow
def test_any_change_of_a_checkpoint_is_rejected_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    random = Random(0)
    every = list(places(checkpoint))
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    shutil.copy(trained / ".run", tmp_path)
    resume = ["fit", "--config", str(trained / "config.yaml"), "--ckpt_path", str(last), "--trainer.max_epochs", "2"]
    for _ in range(100):
        place, value = random.choice(every), random.choice(ANYTHING)
        torch.save(tampered(checkpoint, place, value), last)
        capsys.readouterr()
        code = main(resume)
        if (
            not NOT_READ & set(place)
            and (place, value) not in MAY_LACK
            and not matches_schema(value, get_entry(checkpoint, place))
        ):
            assert code == 2, (place, value)
            (line,) = capsys.readouterr().err.splitlines()
            assert line.isprintable()
        elif code != 0:  # for instance, an epoch after the last one
            assert "pairs-lit: error: " in capsys.readouterr().err


def get_entry(value: Any, place: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - a checkpoint holds anything
    for name in place:
        value = value[name]
    return value


def tampered(checkpoint: dict[str, Any], place: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return a copy of the checkpoint with another value at one position."""
    changed = copy.deepcopy(checkpoint)
    get_entry(changed, place[:-1])[place[-1]] = value
    return changed


# --- run folders and tables ---


def a_run(folder: Path, **data: object) -> Path:
    rows = [RoundResult(seed, "ok", 0.9, None, 0.8, None, 0.8 + seed / 100, None, 0.9, 2) for seed in range(4)]
    write_rounds(folder / "rounds.csv", rows)
    (folder / "summary.json").write_text(json.dumps({"data": {"source": "mnist", "relation": "le"} | data}))
    return folder


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["compare", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(x)"])
def test_run_names_are_escaped_in_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    runs = [a_run(tmp_path / name / "1"), a_run(tmp_path / "other" / "1")]
    rows = list(csv.DictReader(io.StringIO(shown(capsys, *map(str, runs), "--format", "csv"))))
    assert {row["run"] for row in rows} == {f"'{name}", "other"}


@pytest.mark.parametrize("style", ["text", "md", "csv", "latex"])
def test_run_names_and_sources_cannot_control_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], style: str
) -> None:
    run = a_run(tmp_path / "a\x1b]0;title\x07\r\n\u202e" / "1", source="\x1b[2Jmnist\u0008")
    out = shown(capsys, str(run), "--format", style)
    assert all(letter.isprintable() or letter == "\n" for letter in out)


@pytest.mark.parametrize("name", ["a|b|c", "[x](http:x)", "![x](http:x)", "<b>", "`x`", "**x**"])
def test_run_names_are_escaped_in_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run = a_run(tmp_path / name.replace("/", "") / "1")
    out = shown(capsys, str(run), "--format", "md")
    (row,) = [line for line in out.splitlines() if "0.8150" in line]
    assert row.replace("\\|", "").count("|") == 9
    label = row.split(" | ")[0]
    assert all(label[place - 1] == "\\" for place, letter in enumerate(label) if letter in "[]<>`*!" and place)


def test_run_names_are_escaped_in_latex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / r"\input{x}$&%#_^~" / "1", source="\\input{x}")
    out = shown(capsys, str(run), "--format", "latex")
    table, _, below = out.partition("\\end{tabular}")
    assert "\\input" not in table
    (sentence,) = [line for line in below.splitlines() if line and not line.startswith("%")]
    assert sentence.startswith(r"\textbackslash{}input\{x\}\$\&\%\#\_")


def test_run_names_are_not_rendered_as_formulas_in_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path / r"$\frac{1}$ $" / "1")
    shown(capsys, str(run), "--figure", str(tmp_path / "f.png"))
    assert (tmp_path / "f.png").read_bytes()[1:4] == b"PNG"


def test_run_paths_are_normalised(tmp_path: Path) -> None:
    run = a_run(tmp_path / "a" / "1")
    (read,) = read_runs([run / ".." / ".." / "a" / "1"])
    assert read.label == "a"


HEADER = (
    "seed,status,train_accuracy,train_digit_accuracy,val_accuracy,val_digit_accuracy,test_accuracy,"
    "test_digit_accuracy,best_test_accuracy,best_test_epoch\n"
)
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "table",
    [
        "",
        HEADER,
        HEADER + "0,ok,0.9,,0.8,,1.8,,0.9,2\n",
        HEADER + "0,ok,0.9,,0.8,,nan,,0.9,2\n",
        HEADER + "0,ok,0.9,,0.8,,-0.1,,0.9,2\n",
        HEADER + "0,ok,0.9,,0.8,,0.8,,0.9,2\n" * 2,
        HEADER + "0,fine,0.9,,0.8,,0.8,,0.9,2\n",
        HEADER + "zero,ok,0.9,,0.8,,0.8,,0.9,2\n",
        HEADER + "0,ok,0.9\n",
        HEADER + '0,ok,"' + "9" * 200_000 + '",,0.8,,0.8,,0.9,2\n',
        "\0" * 100,
        "\udcff",
    ],
    ids=range(12),
)
def test_invalid_table_of_rounds_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    run = a_run(tmp_path / "a" / "1")
    (run / "rounds.csv").write_bytes(table.encode(errors="surrogateescape"))
    assert main(["compare", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no readable run" in line or "has no test_accuracy" in line


@pytest.mark.parametrize(
    "summary",
    ["", "{", "[]", "3", '{"data": 3}', '{"data": {"source": ["mnist"]}}', "{}", '{"data": ' + DEEP, "\udcff"],
    ids=range(9),
)
def test_invalid_summary_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str], summary: str) -> None:
    run = a_run(tmp_path / "a" / "1")
    (run / "summary.json").write_bytes(summary.encode(errors="surrogateescape"))
    assert main(["compare", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no readable run" in line


@pytest.mark.parametrize(
    "name", ["../up", "/etc/x", "a/b", "a\\b", "..", ".hidden", "a\0b", "a\nb", "", "a" * 101, "é"]
)
def test_run_name_cannot_leave_the_folder(
    fit: Fit, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = ["fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, f"--name={name}"]
    assert main([*arguments, "--trainer.default_root_dir", str(tmp_path)]) == 2
    assert "name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

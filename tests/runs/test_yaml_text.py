"""Duplicate keys in YAML and JSON are rejected wherever they are read."""

import json
from pathlib import Path

import pytest

import pairs_lit
from pairs_lit.cli import main
from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command
from pairs_lit.configuration.factory_options import wrap_factory_options
from pairs_lit.data.sources import check_source
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.run import Run
from pairs_lit.reproduction.fits import ReproductionSettings, iterate_jobs
from pairs_lit.reproduction.published import REPORTS
from pairs_lit.runs.yaml_text import load_yaml, load_yaml_file
from tests.conftest import CONFIGS, Fit
from tests.support.runs import run_rejected

ADAM = "class_path: torch.optim.Adam"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nbias: 2\nlr: 3", "lr is given twice, in lines 1 and 3. Keep one"),
        ("a:\n  b:\n    lr: 1\n    lr: 1", r"lr is given twice, in lines 3 and 4 \(within a.b\)"),
        ("a:\n- x: 1\n- y: 2\n  y: 3", r"y is given twice, in lines 3 and 4 \(within a.2\)"),
        ("{lr: 1,\n 'lr': 2}", "lr is given twice, in lines 1 and 2"),
        ('{"lr": 1,\n\t"lr": 2}', "lr is given twice, in lines 1 and 2"),
        ("1: a\n01: b", "01 is given twice, in lines 1 and 2"),
        ("1: a\n'1': b", "1 is given twice, in lines 1 and 2"),
        ("yes: a\ntrue: b", "true is given twice, in lines 1 and 2"),
        ("{lr, lr}", "lr is given twice, in lines 1 and 1"),
        ("? lr\n: 1\n? lr\n: 2", "lr is given twice, in lines 1 and 3"),
        ("a: &x {lr: 1, lr: 2}\nb: {<<: *x}", "lr is given twice, in lines 1 and 1"),
        ("a: &x {lr: 1}\nb:\n  <<: *x\n  lr: 2\n  lr: 3", "lr is given twice, in lines 4 and 5"),
        ("seed: 010", "seed: YAML reads 010, in line 1, as a number to the base 8"),
        ("a:\n  count: 1:30", "a.count: YAML reads 1:30, in line 2, as a number to the base 60"),
    ],
)
def test_rejected_texts(text: str, message: str) -> None:
    with pytest.raises(PairsLitError, match=f"^mine.yaml: {message}"):
        load_yaml(text, "mine.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x {lr: 1, b: 2}\nc: {<<: *x, lr: 3}", {"a": {"lr": 1, "b": 2}, "c": {"lr": 3, "b": 2}}),
        (
            "a: &x {p: 1}\nb: &y {<<: *x, p: 2}\nc: {<<: [*x, *y], q: 3}",
            {"a": {"p": 1}, "b": {"p": 2}, "c": {"p": 1, "q": 3}},
        ),
        ("a: {lr: 1}\nb: {lr: 1}", {"a": {"lr": 1}, "b": {"lr": 1}}),
        ("{lr: 1e-3, day: 2024-13-45, seed: 007, on: 1}", {"lr": 1e-3, "day": "2024-13-45", "seed": 7, True: 1}),
        ("", None),
    ],
)
def test_accepted_texts(text: str, value: object) -> None:
    assert load_yaml(text, "mine.yaml") == value


def test_an_alias_of_itself_terminates() -> None:
    content = load_yaml("a: &x\n  b: *x", "mine.yaml")
    assert content["a"]["b"] is content["a"]


def test_lines_in_json() -> None:
    text = json.dumps({"a": {"lr": 1, "rl": 2}}, indent=2).replace("rl", "lr")
    with pytest.raises(PairsLitError, match="lr is given twice, in lines 3 and 4"):
        load_yaml(text, "mine.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "mine.yaml is neither YAML nor JSON: line .*while parsing a flow sequence that begins in line 1"),
        (b"a:\n\tb: 1", "line 2, column 1: found character .*: indent with spaces, not tabs"),
        (b"a: 1\n---\na: 2", "line 2, column 1: but found another document .*: leave out the line '---'"),
        (b"a: 1\n? [1]\n: 2", "line 2, column 3: found unhashable key .*: a key must be a text or a number"),
        (b"a: \x01", "mine.yaml is neither YAML nor JSON: "),
        (b"a: \xff", "mine.yaml is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_yaml(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(PairsLitError, match=message):
        load_yaml_file(tmp_path / "mine.yaml")


def read(*options: str) -> object:
    """Read a command line, as every Lightning command does first."""
    return run_lightning_command(
        "fit", ["fit", f"--config={CONFIGS / 'fc_aux.yaml'}", *options], kind=ParseOnlyCLI
    ).config.fit


TWICE = {
    "config.yaml": f"model:\n  optimizer:\n    {ADAM}\n    init_args:\n      lr: 0.001\n      lr: 0.1\n",
    "config.json": '{"model": {"optimizer": {"class_path": "torch.optim.Adam",\n "init_args": {"lr": 1,\n "lr": 2}}}}',
    "dotted.yaml": "rounds:\n  count: 3\nrounds.count: 4\n",
    "loss.yaml": "aux_weight: 0.1\naux_weight: 0.2\n",
    "section.yaml": "loss:\n  aux_weight: 0.1\n  aux_weight: 0.2\n",
    "deep.yaml": "class_path: lightning.pytorch.callbacks.ModelCheckpoint\ninit_args: {save_top_k: 1, save_top_k: 1}\n",
}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--config=config.yaml", "config.yaml: lr is given twice, in lines 5 and 6"),
        ("--config=config.json", "config.json: lr is given twice, in lines 2 and 3"),
        ("--config=dotted.yaml", "dotted.yaml: count is given twice, in lines 2 and 3"),
        (f"--config={TWICE['config.yaml']}", "--config: lr is given twice, in lines 5 and 6"),
        (f"--config={TWICE['config.json']}", "--config: lr is given twice, in lines 2 and 3"),
        ("--config={model: loss.yaml}", "loss.yaml: aux_weight is given twice, in lines 1 and 2"),
        ("--config={model: {loss: loss.yaml}}", "loss.yaml: aux_weight is given twice, in lines 1 and 2"),
        ("--config={trainer: {callbacks: [deep.yaml]}}", "deep.yaml: save_top_k is given twice, in lines 2 and 2"),
        (
            "--config={model.loss.aux_weight: 1, model: {decay: all}}",
            r"model.loss.aux_weight \(line 1\) and model \(line 1\) set the same option",
        ),
        (
            "--config={model: {optimizer: torch.optim.SGD, optimizer.lr: 1}}",
            r"model.optimizer \(line 1\) and model.optimizer.lr",
        ),
        (
            f"--config={{model: {{optimizer: {{{ADAM}, init_args: {{lr: 1}}, dict_kwargs: {{lr: 2}}}}}}}}",
            "--config: lr is given twice",
        ),
        ("--config=a: [1", "--config is neither YAML nor JSON: line .*that begins in line 1"),
        ("--model=section.yaml", "section.yaml: aux_weight is given twice, in lines 2 and 3"),
        ("--model.loss=loss.yaml", "loss.yaml: aux_weight is given twice, in lines 1 and 2"),
        ("--model.loss={aux_weight: 1,\n aux_weight: 2}", "--model.loss: aux_weight is given twice, in lines 1 and 2"),
        (f"--model.optimizer={{{ADAM}, init_args: {{lr: 1, lr: 2}}}}", "--model.optimizer: lr is given twice"),
        (
            '--model.backbone={"class_path": "pairs_lit.nn.backbones.FC", "class_path": "a.B"}',
            "class_path is given twice",
        ),
        ("--data.source={class_path: a.B, init_args: {c: 1, c: 2}}", "--data.source: c is given twice"),
        ("--data.augment={shift: 1, shift: 2}", "--data.augment: shift is given twice"),
        ("--trainer.callbacks=[{class_path: a.B, class_path: a.C}]", "--trainer.callbacks: class_path is given twice"),
        ("--trainer.callbacks+={class_path: a.B, class_path: a.C}", "class_path is given twice"),
        ("--rounds={count: 3, count: 4}", "--rounds: count is given twice"),
    ],
)
def test_duplicate_keys_are_rejected(
    option: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in TWICE.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(PairsLitError, match=message):
        wrap_factory_options([option])


def test_a_value_after_its_option(tmp_path: Path) -> None:
    with pytest.raises(PairsLitError, match=r"--model\.loss: aux_weight is given twice"):
        wrap_factory_options(["--model.loss", "{aux_weight: 1, aux_weight: 2}"])


def test_a_file_named_deep_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser finds what the check of the command line does not find."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep.yaml").write_text("{aux_weight: 1, aux_weight: 2}")
    monkeypatch.setattr("pairs_lit.configuration.factory_options.check_duplicate_options", lambda tokens: None)
    with pytest.raises(PairsLitError, match="aux_weight is given twice"):
        read("--model.loss=deep.yaml")


def test_allowed_repetitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second config, a repeated option, merge keys, and a dotted key next to a section without it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(
        "model:\n  loss: &loss {aux_weight: 0.1, label_smoothing: 0.2}\n  <<: {decay: weights}\n"
        "rounds: {seed: 3}\nrounds.count: 4\n"
    )
    merged = "model: {optimizer: {class_path: torch.optim.Adam, init_args: {<<: &a {lr: 0.5}, lr: 0.25}}}"
    config = read("--config=one.yaml", f"--config={merged}", "--rounds.count=5", "--rounds.count=6")
    assert (config.model.loss.aux_weight, config.model.decay, config.rounds.seed, config.rounds.count) == (  # type: ignore[attr-defined]
        0.1,
        "weights",
        3,
        6,
    )
    assert config.model.optimizer.init_args.lr == 0.25  # type: ignore[attr-defined]


def test_the_command_line_reports_duplicate_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(TWICE["config.yaml"])
    output = run_rejected(["fit", "--config", str(file)], capsys)
    assert "twice.yaml: lr is given twice, in lines 5 and 6" in output
    (tmp_path / "sweep.yaml").write_text("space: {model.loss.aux_weight: [0.1, 0.2]}")
    output = run_rejected(["sweep", "--config", str(file), "--sweep", str(tmp_path / "sweep.yaml")], capsys)
    assert "twice.yaml: lr is given twice, in lines 5 and 6" in output


def test_duplicate_keys_in_other_files(fit: Fit, tmp_path: Path) -> None:
    """The configuration of a finished run, and that of a report."""
    with pytest.raises(PairsLitError, match=r"data\.source: root is given twice"):
        check_source("{class_path: a.B, init_args: {root: 1, root: 2}}")
    folder = tmp_path / "configs" / REPORTS["hakobyan"].folder
    folder.mkdir(parents=True)
    for row in REPORTS["hakobyan"].rows:
        (folder / f"{row.name}.yaml").write_text("rounds: {count: 2}\nrounds: {count: 3}")
    conditions = ReproductionSettings(tmp_path / "configs", None, None, None, False, tmp_path)
    with pytest.raises(PairsLitError, match="rounds is given twice, in lines 1 and 2"):
        list(iterate_jobs(REPORTS["hakobyan"], conditions))
    run = fit("--rounds.count", "2", config="fc_aux")
    config = run / "config.yaml"
    config.write_text(config.read_text() + "rounds: {count: 2}\n")
    with pytest.raises(PairsLitError, match=r"config\.yaml: rounds is given twice, in lines"):
        Run.load(run).config  # noqa: B018 - the property reads it
    with pytest.raises(PairsLitError, match=r"config\.yaml: rounds is given twice, in lines"):
        pairs_lit.open_run(run)
    assert main(["test", str(run)]) == 2

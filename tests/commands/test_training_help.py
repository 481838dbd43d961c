import re

import pytest

from pairs_lit.cli import main
from pairs_lit.commands import LIGHTNING_COMMANDS
from pairs_lit.commands.training_help import TOPICS, main_options, render_first_page
from pairs_lit.configuration.cli import ParseOnlyCLI, run_lightning_command

_PRINTED_DEFAULT = re.compile(r"\(default: ([\w.]+)\)$")


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_the_first_page_fits_a_screen_and_names_every_topic(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith(f"usage: pairs-lit {command} ")
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 120
    assert all(f"pairs-lit {command} --help {topic} " in text for topic in TOPICS)


def test_the_first_page_of_fit_shows_how_to_print_a_complete_configuration() -> None:
    assert "pairs-lit fit --config cnn_aux --print_config" in render_first_page("fit")


def test_the_main_options_exist_and_have_the_defaults_that_the_page_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAIRS_LIT_DATA", raising=False)
    parser = run_lightning_command("fit", ["fit", "--config=fc"], kind=ParseOnlyCLI)._parser("fit")
    defaults = {action.dest: action.default for action in parser._actions}
    checked = 0
    for command in LIGHTNING_COMMANDS:
        for option in main_options(command):
            assert option.name in defaults, option
            if match := _PRINTED_DEFAULT.search(option.text):
                assert str(defaults[option.name]).lower() == match[1].lower(), option
                checked += 1
    assert checked >= 10


def test_a_topic_lists_every_option_of_its_section(capsys: pytest.CaptureFixture[str]) -> None:
    parser = run_lightning_command("fit", ["fit", "--config=fc"], kind=ParseOnlyCLI)._parser("fit")
    assert main(["fit", "--help", "data"]) == 0
    text = capsys.readouterr().out
    sections = {name.split(".")[0] for name in re.findall(r"^  --([\w.]+)", text, flags=re.MULTILINE)}
    assert sections == {"data"}
    linked = ("data.seeds", "data.stack_size", "data.classes")
    options = [action.dest for action in parser._actions if action.dest.startswith("data.")]
    listed = set(re.findall(r"--([\w.]+)[ ,]", text))
    missing = [name for name in options if name not in listed and not name.endswith(".help")]
    assert [name for name in missing if name not in linked] == []


def test_help_on_everything_is_short_enough_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help=all"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 400
    for option in ("--rounds.count", "--data.relation", "--model.backbone", "--trainer.max_epochs", "--ckpt_path"):
        assert f"\n  {option} " in text
    assert "--seed_everything" not in text
    assert "known subclasses" not in text
    assert "paramref" not in text


def test_help_on_the_arguments_of_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--model.optimizer.help", "torch.optim.SGD"])
    assert end.value.code == 0
    assert "--model.optimizer.momentum" in capsys.readouterr().out


def test_an_unknown_topic_is_answered_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help", "modell"]) == 2
    assert "--help modell: there is no such topic: did you mean model?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["-h"], ["--config", "cnn_aux", "--help"], ["-h", "--rounds.count", "2"]])
def test_help_is_shown_wherever_it_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *arguments]) == 0
    assert "usage: pairs-lit fit" in capsys.readouterr().out

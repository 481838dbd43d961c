import ast
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pairs_lit.system.console import print_notice, use_utf8
from tests.conftest import CONFIGS, ROOT, Fit
from tests.support.runs import run_process, run_rejected

INTERNAL = "⟦⟧\ufeff¹²³"
"""Characters that mark places in a text or belong to patterns, and are never printed."""


def find_characters(file: Path) -> set[str]:
    """Return the characters outside ASCII in a module's texts, apart from docstrings."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return {character for text in texts if isinstance(text, str) for character in text if ord(character) > 127} - set(
        INTERNAL
    )


def run_script(script: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script, *arguments]
    variables = os.environ | environment
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=variables, timeout=300)


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "ascii"])
    @pytest.mark.slow
    def test_output_encodings_without_all_characters(self, encoding: str, fit: Fit) -> None:
        run = fit(config="fc_aux")
        commands = [["--help"], ["compare", str(run), str(run)], *([["fit", "--help"]] if encoding == "ascii" else [])]
        for command in commands:
            done = run_process(*command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
            assert (done.returncode, done.stderr.count(b"Error")) == (0, 0)
            done.stdout.decode(encoding)

    def test_unencodable_characters_are_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bytes_ = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
        with use_utf8():
            print("0.8 ± 0.1 − 漢 …", flush=True)
        assert bytes_.getvalue() == b"0.8 +/- 0.1 - ? ...\n"
        with pytest.raises(UnicodeEncodeError):
            print("±", flush=True)

    @pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp850", "ascii"])
    def test_every_character_of_a_message_can_be_printed(self, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        bytes_ = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(bytes_, encoding=encoding))
        characters = "".join(sorted(set().union(*map(find_characters, (ROOT / "pairs_lit").rglob("*.py")))))
        with use_utf8():
            print(characters, flush=True)
        printed = bytes_.getvalue().decode(encoding)
        assert "±" in characters
        assert "+/-" in printed or "±" in printed
        assert "?" not in printed

    @pytest.mark.slow
    def test_an_ascii_locale_reads_utf_8(self, tiny_options: list[str], tmp_path: Path) -> None:
        config = tmp_path / "mine.yaml"
        text = (CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8")
        config.write_text(f"# α, ±, 漢字\n{text}", encoding="utf-8")
        options = ["--config", str(config), *tiny_options, "--trainer.default_root_dir"]
        ascii_ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = run_process("fit", *options, str(tmp_path), **ascii_)
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("lightning_logs/mine/*/rounds.csv"))
        done = run_process("fit", *options, str(tmp_path / "ü"), **ascii_)
        assert (done.returncode, done.stderr.count(b"cannot be read in this locale")) == (2, 1)

    def test_a_byte_order_mark(self, fit: Fit, tmp_path: Path) -> None:
        config = tmp_path / "mine.yaml"
        config.write_text((CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8"), encoding="utf-8-sig")
        fit(config=config)

    def test_a_config_that_is_not_utf_8(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = tmp_path / "mine.yaml"
        config.write_bytes("# für\nrounds: {count: 2}\n".encode("latin-1"))
        assert re.search("mine.yaml is not UTF-8 text", run_rejected(["fit", "--config", str(config)], capsys))

    def test_every_file_is_opened_with_an_encoding(self, tiny_options: list[str], tmp_path: Path) -> None:
        script = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="pairs_lit")
from pathlib import Path
from pairs_lit.cli import main
root, *options = sys.argv[1:]
assert main(["fit", "--config", "fc_aux", "--trainer.default_root_dir", root, *options]) == 0
(run,) = Path(root).glob("lightning_logs/*/*")
for command in (["test"], ["compare", f"--output={root}/table.txt"]):
    assert main([*command, str(run)]) == 0
"""
        done = run_script(script, str(tmp_path), *tiny_options, PYTHONWARNDEFAULTENCODING="1")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_files_are_utf_8_where_the_locale_cannot_be_changed(
        self, mark: str, tiny_options: list[str], tmp_path: Path
    ) -> None:
        """On Windows, the encoding of files opened without one is that of the system."""
        text = (CONFIGS / "fc_aux.yaml").read_text(encoding="utf-8").replace("\n", "\r\n")
        (tmp_path / "mine.yaml").write_bytes(f"{mark}# α, 漢字\r\n{text}".encode())
        (tmp_path / "augment.yaml").write_bytes(f"{mark}# größe\r\nrotate: 5.0\r\n".encode())
        script = """
import locale, sys
def setlocale(category, value=None):
    if value and "UTF-8" in value:
        raise locale.Error
    return "C"
locale.setlocale = setlocale
from pairs_lit.cli import main
sys.exit(main(sys.argv[1:]))
"""
        options = ["--data.augment", str(tmp_path / "augment.yaml"), *tiny_options, "--print_stack", "true"]
        ascii_ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        done = run_script(script, "fit", "--config", str(tmp_path / "mine.yaml"), *options, **ascii_)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("environment", "prints"),
    [
        ({}, True),
        ({"RANK": "1"}, False),
        ({"SLURM_PROCID": "1"}, False),
        ({"LOCAL_RANK": "1", "MASTER_PORT": "29500"}, False),
        ({"LOCAL_RANK": "0", "MASTER_PORT": "29500"}, True),
        ({"LOCAL_RANK": "1"}, True),  # left by another program
    ],
)
def test_only_rank_0_prints_notices(
    environment: dict[str, str], prints: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    print_notice("training")
    assert bool(capsys.readouterr().err) == prints

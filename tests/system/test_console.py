import io
import re
from pathlib import Path

import pytest

from pairs_lit.system.console import use_utf8
from tests.conftest import CONFIGS, Fit
from tests.support.runs import run_process, run_rejected


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
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

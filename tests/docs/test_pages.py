"""Documentation pages: the files, commands and code of every page run in order in one folder."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

import pairs_lit
from pairs_lit.cli import COMMANDS, main
from pairs_lit.commands.demo import build_parser as parser_of_demo
from pairs_lit.commands.reproduce import build_parser as parser_of_reproduce
from tests.support.images import write_images, write_like_mnist

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in DOCS.glob("*.md"))]
FEW: dict[str, object] = {
    "data.source": "digits",
    "data.train_pairs": 40,
    "data.val_pairs": 20,
    "data.test_pairs": 20,
    "trainer.max_epochs": 1,
    "trainer.devices": 1,
    "trainer.enable_progress_bar": False,
}
SMALL = [f"--{name}={value}" for name, value in FEW.items()]
SWEEP = "# sweep.yaml\nspace: {model.loss.aux_weight: [0.5, 1]}\nrounds: {count: 2}\n"
ELSEWHERE = ("pip", "tensorboard", "torchrun", "#!/bin/bash", "#SBATCH", "srun", "$(which", "python benchmarks/")
"""Lines with these prefixes are not run: they install, serve, need a cluster, or take an hour."""

pytestmark = [
    pytest.mark.slow,
    # warnings of a plain Trainer in the Python examples; the command line silences them
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs under the names used on the pages."""
    folder = tmp_path_factory.mktemp("runs")
    options = {**FEW, "rounds.count": 2}
    for config in ("cnn", "cnn_aux"):
        run = pairs_lit.fit(config, {**options, "trainer.default_root_dir": folder / config})
        target = folder / "lightning_logs" / config / "RUN"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run.folder, target)
    shutil.copytree(folder / "lightning_logs/cnn_aux/RUN", folder / "RUN")
    shutil.copytree(folder / "lightning_logs/cnn_aux", folder / "lightning_logs/cnn_aux_2")
    return folder


LONG = {"demo": parser_of_demo, "reproduce": parser_of_reproduce}
"""Commands that run for a long time; only their options are parsed here."""

MY_DATA = """
import torch


class MyDigits:
    data = torch.randint(0, 256, (200, 28, 28), dtype=torch.uint8)
    targets = torch.arange(200) % 10

    def __len__(self):
        return 200

    def __getitem__(self, place):
        return self.data[place], int(self.targets[place])
"""


def prepare(runs: Path, folder: Path) -> None:
    """Create the files that pages assume to exist: runs, configs, datasets, images."""
    for name in ("RUN", "lightning_logs"):
        shutil.copytree(runs / name, folder / name)
    (folder / "configs").symlink_to(ROOT / "configs")
    write_like_mnist(folder / "data", "FashionMNIST")
    write_like_mnist(folder / "data", "EMNIST", "emnist-digits-", "test")
    write_images(folder / "images", ["1", "2", "10"], count=40, size=40)
    (folder / "my_data.py").write_text(MY_DATA)
    digits = load_digits().images
    for name, place in (("left", 3), ("right", 7)):
        Image.fromarray((digits[place] * 15).astype("uint8")).resize((120, 120)).save(folder / f"{name}.png")


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs(page: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(runs, tmp_path)
    monkeypatch.delenv("PAIRS_LIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
    files = {
        named[1]: text for _, text in [("", SWEEP), *blocks] if (named := re.match(r"# (\w+\.(?:py|yaml))\n", text))
    }
    for name, text in files.items():
        (tmp_path / name).write_text(re.sub(r"\bcount: \d+", "count: 2", text) if name.endswith("yaml") else text)
    names: dict[str, object] = {}
    for language, text in blocks:
        if language == "python" and text not in files.values():
            exec(compile(text, page, "exec"), names)
        for line in commands(text) if language in ("", "sh") else []:
            check(line)


def commands(text: str) -> list[str]:
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def check(line: str) -> None:
    if line.startswith(ELSEWHERE):
        return
    words = shlex.split(line, comments=True)
    if not words or words[0] != "pairs-lit":
        return
    command, *options = words[1 : words.index(">") if ">" in words else None]
    assert command in COMMANDS
    if command in LONG:
        LONG[command]().parse_args(options)
        return
    small = [] if "--ckpt_path" in options else SMALL
    if "--data.source" in options:
        small = [option for option in small if "data.source" not in option]
    if command == "fit" and small:
        small = [*small, "--rounds.count", "2", "--rounds.stack_size", "1"]
    try:
        code = main([command, *options, *(small if command in ("fit", "sweep") else [])])
    except SystemExit as end:  # --help, --print_stack
        code = int(end.code or 0)
    assert code == 0, line

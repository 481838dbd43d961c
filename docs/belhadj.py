"""Rebuild belhadj's table and figures from four runs: ``python docs/belhadj.py FC FC_AUX CNN CNN_AUX``.

Each argument is the run folder of the config of that name. Writes ``docs/belhadj.md`` and ``docs/belhadj.png``.
"""

import json
import sys
from pathlib import Path

from tabulate import tabulate

from pairs_lit.durable import write_text_durably
from pairs_lit.figures import curves_figure, save
from pairs_lit.report import mean_and_std
from pairs_lit.results import read_curves, read_rounds, summaries

PUBLISHED = {"FC": (2101, ".7941 ± .0190"), "FC_aux": (2101, ".8143 ± .0344")}
PUBLISHED |= {"CNN": (1781, ".8428 ± .0106"), "CNN_aux": (1781, ".8759 ± .0162")}
PANELS = {
    "test/accuracy": "test accuracy (fraction of pairs)",
    "test/target_loss": "test loss, auxiliary part left out (nats)",
}


def row(name: str, run: Path) -> list[str]:
    """Put one published row and one run side by side."""
    count, published = PUBLISHED[name]
    facts = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    ours = summaries(read_rounds(run / "rounds.csv"))
    best, final = (mean_and_std(ours[column]) for column in ("best_test_accuracy", "test_accuracy"))
    counts = f"{facts['parameters_per_round']:,} (published {count:,})"
    return [name, counts, f"{published} (n = 10)", best, final, facts["data"]["source"]]


def main(runs: list[Path]) -> None:
    """Write the table and the figure."""
    header = ["row", "parameters", "published", "ours, best test epoch", "ours, final epoch", "data"]
    table = [row(name, run) for name, run in zip(PUBLISHED, runs, strict=True)]
    folder = Path(__file__).parent
    write_text_durably(folder / "belhadj.md", tabulate(table, header, tablefmt="github", disable_numparse=True) + "\n")
    curves = {name: read_curves(run / "curves.csv") for name, run in zip(PUBLISHED, runs, strict=True)}
    save(curves_figure(curves, PANELS), folder / "belhadj.png")


if __name__ == "__main__":
    if len(sys.argv) != 1 + len(PUBLISHED):
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])

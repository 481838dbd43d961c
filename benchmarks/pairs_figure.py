"""A few pairs with their answers, for the README: ``python benchmarks/pairs_figure.py``.

Draws the first training pairs of seed 0, as a network sees them, and writes ``docs/pairs.png``. MNIST is read from
``PAIRS_LIT_DATA``; ``--source digits`` takes scikit-learn's bundled digits instead, and the figure says so.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from matplotlib.figure import Figure

from pairs_lit.analysis.figures import save
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.sources import SourceName

COUNT = 6
OUTPUT = Path(__file__).parent.parent / "docs" / "pairs.png"


def figure(data: PairDataModule) -> Figure:
    """Draw the first training pairs of the first round, a column a pair, the answer below each."""
    pairs, settings = data.bank.ordered("train", slice(0, 1)), data.settings
    images = data.bank.gather(pairs.index[:, :COUNT], slice(0, 1))[0]
    drawn = Figure(figsize=(8.4, 1.3), layout="constrained")
    gap = torch.full((images.shape[-2], 1), 255.0)
    digits, targets = pairs.digits[0, :COUNT].tolist(), pairs.target[0, :COUNT].tolist()
    for axes, both, (left, right), target in zip(drawn.subplots(1, COUNT), images, digits, targets, strict=True):
        axes.imshow(torch.cat([both[0], gap, both[1]], 1).numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_frame_on(False)
        axes.set_xlabel(f"{left} ≤ {right}: {'yes' if target else 'no'}", fontsize=12)
    size = settings.image_size
    drawn.suptitle(f"The first {COUNT} training pairs of seed 0, {size}×{size} pixels. Data: {settings.source}", size=9)
    return drawn


def arguments(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Draw a few pairs with their answers.")
    parser.add_argument("--source", default="mnist", choices=get_args(SourceName), help="where the digits come from")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file")
    return parser.parse_args(args)


def main() -> None:
    """Draw and write."""
    options = arguments()
    data = PairDataModule(seeds=[0], stack_size=1, source=options.source, relation="le")
    save(figure(data), options.output, f"benchmarks/pairs_figure.py, data: {data.settings.source}, seed 0")
    print(options.output)


if __name__ == "__main__":
    main()

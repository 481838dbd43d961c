"""A few pairs and their answers, for the README: ``python benchmarks/pairs_figure.py``.

Draws the first training pairs of seed 0, as a network sees them, and writes ``docs/pairs.png``. MNIST is read from
``PAIRS_LIT_DATA``. With ``--source digits``, the digits bundled with scikit-learn are used, and the figure says so.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from matplotlib.figure import Figure

from figure_style import INK, create_figure
from pairs_lit.analysis.figures import save_figure
from pairs_lit.data.datamodule import PairDataModule
from pairs_lit.data.sources import SourceName

PAIR_COUNT = 6
OUTPUT = Path(__file__).parent.parent / "docs" / "pairs.png"


def draw_pairs(data: PairDataModule) -> Figure:
    """Draw the first training pairs of the first round in two rows, each with its answer below."""
    pairs, settings = data.bank.get_pairs("train", slice(0, 1)), data.settings
    images = data.bank.gather_images(pairs.index[:, :PAIR_COUNT], slice(0, 1))[0]
    drawn = create_figure(2.5)
    gap = torch.full((images.shape[-2], 1), float("nan"))  # transparent
    digits, targets = pairs.digits[0, :PAIR_COUNT].tolist(), pairs.target[0, :PAIR_COUNT].tolist()
    panels = drawn.subplots(2, PAIR_COUNT // 2).flatten()
    for axes, both, (left, right), target in zip(panels, images, digits, targets, strict=True):
        axes.imshow(torch.cat([both[0], gap, both[1]], 1).numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_facecolor("none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_frame_on(False)
        axes.set_xlabel(f"{left} ≤ {right}: {'yes' if target else 'no'}", fontsize=11, color=INK)
    size = settings.image_size
    title = f"{PAIR_COUNT} training pairs of seed 0, {size}×{size} pixels. Data: {settings.source}"
    drawn.suptitle(title, size=9, color=INK)
    return drawn


def parse_arguments(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Draw a few pairs with their answers.")
    parser.add_argument(
        "--source", default="mnist", choices=get_args(SourceName), help="source of the images (default: mnist)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write (default: docs/pairs.png)")
    return parser.parse_args(args)


def main() -> None:
    """Draw the figure and write it."""
    options = parse_arguments()
    data = PairDataModule(seeds=[0], stack_size=1, source=options.source, relation="le")
    save_figure(draw_pairs(data), options.output, f"benchmarks/pairs_figure.py, data: {data.settings.source}, seed 0")
    print(options.output)


if __name__ == "__main__":
    main()

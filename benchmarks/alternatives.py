"""What people use otherwise, timed on the same rounds: the table of the README.

``python benchmarks/alternatives.py`` prints milliseconds per round and epoch (training, then evaluation of 1,000
validation and 1,000 test pairs) of a hand-written loop, ``torch.func.vmap``, JAX and ``pairs-lit``: medians over
interleaved repeats, each way in a process of its own, on MNIST. JAX is optional: ``pip install jax``.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parent))

import contenders
from contenders import Timing

NETWORKS = ("fc", "cnn_aux")
EPOCHS = {"fc": 8, "cnn_aux": 5}


def _loop(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    torch.set_num_threads(1)
    return contenders.plain(name, seeds[:2], epochs, "cpu")


def _functional(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    return contenders.functional(name, seeds, epochs, "cpu")


def _pairs_lit(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    return contenders.pairs_lit(name, seeds, epochs, "cpu")


def _jax(way: str, name: str, seeds: Sequence[int], epochs: int) -> Timing:
    import jax_rounds

    if way == "loop":
        return jax_rounds.one_by_one(name, seeds[:2], epochs)
    return jax_rounds.side_by_side(name, seeds, epochs)


def ways(rounds: int) -> dict[str, Callable[..., Timing]]:
    """Return each way to train rounds, by its name in the table."""
    found: dict[str, Callable[..., Timing]] = {
        "hand-written loop": _loop,
        f"torch.func.vmap, {rounds} rounds": _functional,
    }
    if find_spec("jax") is not None:
        found |= {
            "JAX, one round at a time": partial(_jax, "loop"),
            f"JAX vmap, {rounds} rounds": partial(_jax, "vmap"),
        }
    return found | {f"pairs-lit, {rounds} rounds": _pairs_lit}


def measure(rounds: int, repeats: int) -> list[list[object]]:
    """Return the rows of the table."""
    every, context = ways(rounds), multiprocessing.get_context("spawn")
    times: dict[tuple[str, str], list[float]] = {(way, name): [] for way in every for name in NETWORKS}
    accuracy = dict[tuple[str, str], float]()
    with_process = {way: ProcessPoolExecutor(1, context) for way in every}
    for _ in range(repeats):
        for name in NETWORKS:
            for way, train in every.items():
                found = with_process[way].submit(train, name, range(rounds), EPOCHS[name]).result()
                times[way, name] += found.seconds
                accuracy[way, name] = sum(found.accuracy) / len(found.accuracy)
    for pool in with_process.values():
        pool.shutdown()
    cells = {key: f"{1000 * median(values):.1f} ms ({accuracy[key]:.3f})" for key, values in times.items()}
    return [[way, *(cells[way, name] for name in NETWORKS)] for way in every]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    heads = ["per round and epoch (mean test accuracy after the last epoch)", "FC", "CNN_aux"]
    print(tabulate(measure(options.rounds, options.repeats), heads))


if __name__ == "__main__":
    main()

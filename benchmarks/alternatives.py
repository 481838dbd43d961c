"""Speed of common alternatives on the same rounds: the table of the README.

``python benchmarks/alternatives.py`` prints milliseconds per round and epoch (training, then evaluation of 1,000
validation and 1,000 test pairs) of a hand-written loop, ``torch.func.vmap``, JAX and ``pairs-lit``: medians over
interleaved repeats on MNIST, with one process per method. JAX is optional: ``pip install jax``.
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

import baselines
from baselines import Timing

NETWORKS = ("fc", "cnn_aux")
EPOCHS = {"fc": 8, "cnn_aux": 5}


def _train_plain(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    torch.set_num_threads(1)
    return baselines.train_plain(name, seeds[:2], epochs, "cpu")


def _train_vmap(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    return baselines.train_vmap(name, seeds, epochs, "cpu")


def _train_pairs_lit(name: str, seeds: Sequence[int], epochs: int) -> Timing:
    return baselines.train_pairs_lit(name, seeds, epochs, "cpu")


def _train_jax(way: str, name: str, seeds: Sequence[int], epochs: int) -> Timing:
    import jax_rounds

    if way == "loop":
        return jax_rounds.train_sequentially(name, seeds[:2], epochs)
    return jax_rounds.train_vmapped(name, seeds, epochs)


def list_methods(rounds: int) -> dict[str, Callable[..., Timing]]:
    """Return the training function of each method, by its name in the table."""
    methods: dict[str, Callable[..., Timing]] = {
        "hand-written loop": _train_plain,
        f"torch.func.vmap, {rounds} rounds": _train_vmap,
    }
    if find_spec("jax") is not None:
        methods |= {
            "JAX, one round at a time": partial(_train_jax, "loop"),
            f"JAX vmap, {rounds} rounds": partial(_train_jax, "vmap"),
        }
    return methods | {f"pairs-lit, {rounds} rounds": _train_pairs_lit}


def measure(rounds: int, repeats: int) -> list[list[object]]:
    """Train each network with each method and return the rows of the table."""
    methods, context = list_methods(rounds), multiprocessing.get_context("spawn")
    times: dict[tuple[str, str], list[float]] = {(way, name): [] for way in methods for name in NETWORKS}
    accuracy = dict[tuple[str, str], float]()
    processes = {way: ProcessPoolExecutor(1, context) for way in methods}
    for _ in range(repeats):
        for name in NETWORKS:
            for way, train in methods.items():
                timing = processes[way].submit(train, name, range(rounds), EPOCHS[name]).result()
                times[way, name] += timing.seconds
                accuracy[way, name] = sum(timing.accuracy) / len(timing.accuracy)
    for pool in processes.values():
        pool.shutdown()
    cells = {key: f"{1000 * median(values):.1f} ms ({accuracy[key]:.3f})" for key, values in times.items()}
    return [[way, *(cells[way, name] for name in NETWORKS)] for way in methods]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds trained side by side (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats (default: 3)")
    options = parser.parse_args()
    heads = ["per round and epoch (mean test accuracy after the last epoch)", "FC", "CNN_aux"]
    print(tabulate(measure(options.rounds, options.repeats), heads))


if __name__ == "__main__":
    main()

"""Metrics over all ordered pairs of a split's images equal those of single-round networks on every single pair."""

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pairs_lit
from pairs_lit import PairDataModule, PairModule, PairsLitError, Run
from pairs_lit.cli import main
from pairs_lit.data import pair_store as bank
from pairs_lit.data import pairs
from pairs_lit.data.pairs import build_ordered_pairs
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import SoftmaxHead
from pairs_lit.relation import Relation, compute_second_weights
from pairs_lit.training import all_pairs
from pairs_lit.training.all_pairs import build_pair_positions, compute_block_rows, count_correct_pairs
from tests.support.mnist_files import write_mnist

TRAIN, TEST = 61, 23
HOLDS = {"le": lambda a, b: a <= b, "lt": lambda a, b: a < b, "ge": lambda a, b: a >= b, "gt": lambda a, b: a > b}
SEEDS = (4, 5, 6)

FC10 = {"class_path": "pairs_lit.nn.backbones.FC", "init_args": {"widths": [12, 10]}}
AUXILIARY = {"readout": "identity", "loss": {"target": "bce", "digits": "ce", "aux_weight": 1.0}}
PARTS: dict[str, dict[str, Any]] = {
    "softmax": {"head": {"class_path": "pairs_lit.nn.heads.SoftmaxHead"}, **AUXILIARY},
    "power": {
        "head": {"class_path": "pairs_lit.nn.heads.PowerHead"},
        "sharing": "separate",
        "loss": {"target": "mse"},
    },
    "argmax": {
        "head": {"class_path": "pairs_lit.nn.heads.ArgmaxHead"},
        "readout": "identity",
        "loss": {"target": "none", "digits": "ce", "aux_weight": 1.0},
    },
    "mlp": {"head": {"class_path": "pairs_lit.nn.heads.MLP"}, **AUXILIARY},
    "separate": {"head": {"class_path": "pairs_lit.nn.heads.MLP"}, "sharing": "separate", **AUXILIARY},
    "joint": {"head": {"class_path": "pairs_lit.nn.heads.MLP", "init_args": {"outputs": 2}}, "sharing": "joint"}
    | {"loss": {"target": "ce"}},
    "network": {"network": "tests.training.test_all_pairs.PairNet", "backbone": None, "head": None},
}
FOLLOWING_FROM_DIGITS = ("softmax", "power", "argmax")


class PairNet(torch.nn.Module):
    """A custom pair network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2 * 14 * 14, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("few"), TRAIN, TEST)


def build_config(root: Path, kind: str, relation: Relation = "le") -> dict[str, Any]:
    data = {"root": str(root), "source": "mnist", "allow_unverified": True, "batch_size": 5, "eval_batch_size": 7}
    data |= {"train_pairs": 10, "val_pairs": 5, "test_pairs": 8, "normalise": "standard", "relation": relation}
    model = {"backbone": FC10} | PARTS[kind] | {"optimizer": {"class_path": "torch.optim.Adam"}}
    model["optimizer"] |= {"init_args": {"lr": 0.02}}
    return {
        "data": data | {"all_pairs": ["val", "test"]},
        "model": {name: value for name, value in model.items() if value is not None},
        "rounds": {"count": len(SEEDS), "seed": SEEDS[0], "stack_size": 2},
        "trainer": {"max_epochs": 3, "devices": 1, "enable_progress_bar": False},
    }


def fit_small(root: Path, folder: Path, kind: str, relation: Relation = "le", **changes: object) -> Run:
    options = {name.replace("__", "."): value for name, value in changes.items()}
    return pairs_lit.fit(build_config(root, kind, relation), {"trainer.default_root_dir": folder, **options})


def build_data(root: Path, **settings: Any) -> PairDataModule:  # noqa: ANN401 - any settings
    defaults = {"train_pairs": 10, "val_pairs": 5, "test_pairs": 8, "source": "mnist", "allow_unverified": True}
    return PairDataModule(seeds=list(SEEDS), root=str(root), **defaults | settings)


def compute_by_hand(
    run: Run, seed: int, images: Tensor, labels: Tensor, relation: Relation
) -> tuple[float, float | None]:
    """Compute the accuracy and the digit accuracy of one single-round network over every ordered pair."""
    index_pairs = list(itertools.permutations(range(len(labels)), 2))
    prepared = run.trained.preprocessing(seed)(images[index_pairs])
    with torch.no_grad():
        output = run.network(seed)(prepared)
    p, digits = output if isinstance(output, tuple) else (output, None)
    predictions, classes = (p > 0.5).tolist(), labels.tolist()
    is_correct = [
        HOLDS[relation](classes[a], classes[b]) == prediction
        for (a, b), prediction in zip(index_pairs, predictions, strict=True)
    ]
    if digits is None:
        return float(np.mean(is_correct)), None
    predicted = digits.argmax(-1).tolist()
    is_digit_correct = [
        predicted[n][place] == classes[pair[place]] for n, pair in enumerate(index_pairs) for place in (0, 1)
    ]
    return float(np.mean(is_correct)), float(np.mean(is_digit_correct))


def read_images(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read images (n, 28, 28) of bytes and labels from MNIST's files."""
    raw = root / "MNIST" / "raw"
    images = np.frombuffer((raw / f"{part}-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 28, 28)
    labels = np.frombuffer((raw / f"{part}-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    return torch.tensor(images), torch.tensor(labels).long()


@pytest.mark.parametrize(
    ("kind", "relation"),
    [
        ("softmax", "le"),
        ("softmax", "lt"),
        ("power", "ge"),
        ("power", "gt"),
        ("argmax", "le"),
        ("argmax", "gt"),
        ("mlp", "lt"),
        ("separate", "ge"),
        ("joint", "gt"),
        ("network", "le"),
    ],
)
@pytest.mark.quick(3)
def test_metrics_equal_those_of_single_round_networks(
    kind: str, relation: Relation, root: Path, tmp_path: Path
) -> None:
    run = fit_small(root, tmp_path, kind, relation)
    store = build_data(root).bank
    for number, result in enumerate(run.rounds):
        accuracy, digits = compute_by_hand(run, result.seed, *read_images(root, "t10k"), relation)
        assert result.test_all_accuracy == pytest.approx(accuracy, abs=1e-12)
        assert result.test_all_digit_accuracy == (None if digits is None else pytest.approx(digits, abs=1e-12))
        images, labels = read_images(root, "train")
        unseen = sorted(set(range(TRAIN)) - set(store.pairs["train"].index[number].flatten().tolist()))
        accuracy, digits = compute_by_hand(run, result.seed, images[unseen], labels[unseen], relation)
        assert result.val_all_accuracy == pytest.approx(accuracy, abs=1e-12)
        assert result.val_all_digit_accuracy == (None if digits is None else pytest.approx(digits, abs=1e-12))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("relation", ["le", "lt", "ge", "gt"])
@pytest.mark.parametrize(("images", "classes"), [(2, 2), (37, 10), (64, 3)])
@pytest.mark.quick(6)
def test_block_counts_equal_those_of_a_loop(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, relation: Relation, images: int, classes: int
) -> None:
    generator = torch.Generator().manual_seed(images)
    p = torch.rand(images, 2, classes, generator=generator, dtype=torch.float64)
    p = torch.where(p < 0.5, 0, (8 * p).round()).to(dtype)  # sums are exact in any type
    p[:, :, 0] += (p.sum(-1) == 0).to(dtype)
    exact = (p.double() / p.double().sum(-1, keepdim=True)).to(torch.float64 if dtype == torch.float64 else dtype)
    labels = torch.randint(classes, (images,), generator=generator)
    expected = undecided = 0
    for a, b in itertools.permutations(range(images), 2):
        digit_pairs = itertools.product(range(classes), repeat=2)
        holds = sum(float(exact[a, 0, i]) * float(exact[b, 1, j]) for i, j in digit_pairs if HOLDS[relation](i, j))
        undecided += abs(holds - 0.5) < (1e-6 if dtype != torch.bfloat16 else 0.02)
        expected += (holds > 0.5) == HOLDS[relation](labels[a], labels[b])
    weights = compute_second_weights(relation, exact[:, 0])
    for size in (1, 300, all_pairs.MAX_BLOCK_BYTES):
        monkeypatch.setattr(all_pairs, "MAX_BLOCK_BYTES", size)
        assert abs(count_correct_pairs(relation, weights, exact[:, 1], labels) - expected) <= undecided


class _LargestTensor(TorchDispatchMode):
    """Records the size of the largest new tensor in bytes."""

    num_bytes = 0

    def __torch_dispatch__(  # the signature is torch's
        self,
        function: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Any = (),  # noqa: ANN401
        kwargs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        result = function(*args, **(kwargs or {}))
        sizes = [part.numel() * part.element_size() for part in tree_leaves(result) if isinstance(part, Tensor)]
        self.num_bytes = max([self.num_bytes, *sizes])
        return result


def test_memory_is_limited_to_a_block_and_grows_linearly_with_the_images() -> None:
    images, classes = 6000, 10
    p = torch.rand(images, 2, classes).softmax(-1)
    with _LargestTensor() as largest:
        count_correct_pairs("le", compute_second_weights("le", p[:, 0]), p[:, 1], torch.randint(classes, (images,)))
    assert largest.num_bytes <= max(all_pairs.MAX_BLOCK_BYTES, 16 * images * classes)
    assert images**2 / 10 > all_pairs.MAX_BLOCK_BYTES
    assert compute_block_rows(10_000, 4) * 10_000 * 4 <= all_pairs.MAX_BLOCK_BYTES
    assert compute_block_rows(10**9, 4) == 1


def test_ordered_pairs_are_all_pairs_of_a_few_images() -> None:
    assert {tuple(pair) for pair in build_ordered_pairs(5).tolist()} == set(itertools.permutations(range(5), 2))
    assert len(build_ordered_pairs(447)) == 447 * 446
    assert len(build_ordered_pairs(448)) == pairs.MAX_ORDERED_PAIRS


def test_ordered_pairs_are_a_reproducible_sample_of_pairs_of_many_images() -> None:
    sample = build_ordered_pairs(10_000)
    assert sample.shape == (200_000, 2)
    assert torch.equal(sample, build_ordered_pairs(10_000))
    assert (sample[:, 0] != sample[:, 1]).all()
    for place in (0, 1):  # each image about 20 times
        counts = torch.bincount(sample[:, place], minlength=10_000).double()
        assert len(counts) == 10_000
        assert 18 < counts.var() < 22
    assert 0.49 < (sample[:, 0] < sample[:, 1]).double().mean() < 0.51


@pytest.mark.parametrize("train_pairs", [10, 25, 100])
def test_validation_images_are_in_no_training_pair_of_the_round(root: Path, train_pairs: int) -> None:
    store = build_data(root, train_pairs=train_pairs, swap="relabel").bank
    val_images = store.get_evaluation_images("val", slice(None))
    assert val_images.shape == (3, store.count_evaluation_images("val"))
    assert store.count_evaluation_images("val") == 10 + max(0, 51 - 2 * train_pairs)
    for number, images in enumerate(val_images.tolist()):
        assert len(set(images)) == len(images)
        assert not set(images) & set(store.pairs["train"].index[number].flatten().tolist())
        assert set(store.pairs["val"].index[number].flatten().tolist()) == set(images[:10])
        assert max(images) < TRAIN
    other = PairDataModule(
        seeds=[9, SEEDS[1]], root=str(root), source="mnist", allow_unverified=True, train_pairs=train_pairs, val_pairs=5
    )
    assert torch.equal(other.bank.get_evaluation_images("val", slice(1, 2)), val_images[1:2])


def test_the_number_of_unused_validation_images_is_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_images = build_data(root).bank.get_evaluation_images("val", slice(None))
    monkeypatch.setattr(bank, "MAX_UNSEEN_IMAGES", 15)
    assert torch.equal(build_data(root).bank.get_evaluation_images("val", slice(None)), all_images[:, :15])


def test_all_images_of_a_separate_validation_split_are_used() -> None:
    store = PairDataModule(seeds=[0, 1], source="digits", train_pairs=50, val_pairs=20, test_pairs=20).bank
    val, test = (store.get_evaluation_images(split, slice(None)).tolist() for split in ("val", "test"))
    assert val == [list(range(1197, 1497))] * 2
    assert test == [list(range(1497, 1797))] * 2


@pytest.mark.parametrize("sharing", ["shared", "separate"])
@pytest.mark.parametrize("images", [2, 5, 8])
def test_each_image_is_needed_once_if_digit_probabilities_decide(sharing: Any, images: int) -> None:  # noqa: ANN401
    module = PairModule(seeds=[0], backbone=lambda shape: FC(shape, widths=[10]), head=SoftmaxHead, sharing=sharing)
    positions = build_pair_positions(module, images)
    if sharing == "separate":
        assert positions.tolist() == [[image, image] for image in range(images)]
    else:
        assert positions.flatten()[:images].tolist() == list(range(images))
        assert len(positions) == -(-images // 2)


def get_all_pairs_metrics(run: Run) -> list[tuple[float | None, ...]]:
    names = [f"{split}_all_{metric}" for split in ("val", "test") for metric in ("accuracy", "digit_accuracy")]
    return [tuple(vars(result)[name] for name in names) for result in run.rounds]


@pytest.mark.parametrize("kind", ["softmax", "mlp"])
@pytest.mark.quick(1)
def test_workers_and_stacks_change_nothing(kind: str, root: Path, tmp_path: Path) -> None:
    exact = {"trainer__precision": "64-true"}
    run = fit_small(root, tmp_path, kind, **exact)
    two_workers = fit_small(root, tmp_path, kind, trainer__devices=2, **exact)
    assert (run.folder / "rounds.csv").read_bytes() == (two_workers.folder / "rounds.csv").read_bytes()
    assert get_all_pairs_metrics(
        fit_small(root, tmp_path, kind, rounds__stack_size=3, **exact)
    ) == get_all_pairs_metrics(run)
    one_round = {"rounds__count": 1, "rounds__seed": SEEDS[2]}
    assert (
        get_all_pairs_metrics(fit_small(root, tmp_path, kind, **one_round, **exact)) == get_all_pairs_metrics(run)[2:]
    )


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_metrics_in_low_precision(precision: str, root: Path, tmp_path: Path) -> None:
    run = fit_small(root, tmp_path, "softmax", trainer__precision=precision)
    for result in run.rounds:
        accuracy, _ = compute_by_hand(run, result.seed, *read_images(root, "t10k"), "le")
        assert result.test_all_accuracy == pytest.approx(accuracy, abs=0.03)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def build_checkpoint_arguments(run: Run) -> list[str]:
    return ["--config", str(run.folder / "config.yaml"), "--ckpt_path", str(run.folder / "checkpoints" / "last.ckpt")]


@pytest.fixture(scope="module")
def watched_at_the_end(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit_small(root, tmp_path_factory.mktemp("end"), "softmax", data__watch_test="end")


def test_curves_have_no_test_metrics_if_watch_test_is_end(watched_at_the_end: Run, root: Path, tmp_path: Path) -> None:
    run, watched_always = watched_at_the_end, fit_small(root, tmp_path, "softmax")
    assert not any(name.startswith("test/") for name in run.curves.values)
    for result, other in zip(run.rounds, watched_always.rounds, strict=True):
        assert (result.best_test_accuracy, result.best_test_epoch) == (None, None)
        assert vars(result) == vars(other) | {"best_test_accuracy": None, "best_test_epoch": None}


def test_a_fit_without_test_pairs_has_no_test_metrics(root: Path, tmp_path: Path) -> None:
    run = fit_small(root, tmp_path, "softmax", data__watch_test=False)
    assert not any(run.values(f"test_{name}") for name in ("accuracy", "all_accuracy", "all_digit_accuracy"))
    assert len(run.values("val_all_accuracy")) == 3
    header = (run.folder / "rounds.csv").read_text().splitlines()[0]
    assert header.endswith("best_test_epoch,val_all_accuracy,val_all_digit_accuracy")
    assert set(json.loads((run.folder / "summary.json").read_text())["all_pairs"]) == {"val"}


def test_test_and_validate_reproduce_the_metrics_and_report_the_number_of_pairs(
    watched_at_the_end: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run = watched_at_the_end
    for command, split in (("test", "test"), ("validate", "val")):
        assert main([command, *build_checkpoint_arguments(run)]) == 0
        pairs = {"test": "all 506 ordered pairs of 23 images", "val": "all 1,640 ordered pairs of 41 images"}[split]
        assert f"All pairs: {split}, {pairs}." in capsys.readouterr().out
        for metric in ("accuracy", "all_accuracy", "all_digit_accuracy"):
            name = f"{split}_{metric}"
            values = {int(row["seed"]): float(row[name]) for row in read_rows(run.folder / f"{command}.csv")}
            assert values == run.values(name)
    assert "test_accuracy" not in read_rows(run.folder / "validate.csv")[0]


def test_rerunning_a_finished_fit_writes_the_same_tables(watched_at_the_end: Run) -> None:
    before = (watched_at_the_end.folder / "rounds.csv").read_bytes()
    (watched_at_the_end.folder / "rounds.csv").unlink()
    assert main(["fit", *build_checkpoint_arguments(watched_at_the_end)]) == 0
    assert (watched_at_the_end.folder / "rounds.csv").read_bytes() == before


@pytest.mark.slow
def test_a_resumed_fit_equals_an_uninterrupted_one(root: Path, tmp_path: Path) -> None:
    resumed = fit_small(root, tmp_path, "mlp", data__watch_test="end", trainer__max_epochs=1)
    assert main(["fit", *build_checkpoint_arguments(resumed), "--trainer.max_epochs", "3"]) == 0
    uninterrupted = fit_small(root, tmp_path, "mlp", data__watch_test="end")
    assert (resumed.folder / "rounds.csv").read_bytes() == (uninterrupted.folder / "rounds.csv").read_bytes()


def test_the_summary_contains_the_number_of_pairs(watched_at_the_end: Run) -> None:
    summary = json.loads((watched_at_the_end.folder / "summary.json").read_text())
    assert summary["all_pairs"] == {
        "val": {"images": 41, "pairs": 1640, "sampled": False},
        "test": {"images": 23, "pairs": 506, "sampled": False},
    }
    values = list(watched_at_the_end.values("test_all_accuracy").values())
    assert summary["metrics"]["test_all_accuracy"]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert summary["metrics"]["test_all_accuracy"]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def test_a_sample_of_pairs_is_reported_as_such(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "MAX_ORDERED_PAIRS", 300)
    options = ["--config", str(write_config(root, tmp_path, "mlp")), "--trainer.default_root_dir", str(tmp_path)]
    assert main(["fit", *options]) == 0
    assert "test, a sample of 300 of the 506 ordered pairs of 23 images." in capsys.readouterr().out
    (file,) = tmp_path.glob("lightning_logs/*/*/summary.json")
    counts = json.loads(file.read_text())["all_pairs"]["test"]
    assert counts == {"images": 23, "pairs": 300, "sampled": True}


def write_config(root: Path, folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.yaml"
    path.write_text(json.dumps(build_config(root, kind)))
    return path


def test_files_have_no_metrics_over_all_pairs_without_the_option(root: Path, tmp_path: Path) -> None:
    run = fit_small(root, tmp_path, "softmax", data__all_pairs=[])
    assert "all_pairs" not in json.loads((run.folder / "summary.json").read_text())
    assert "_all_" not in (run.folder / "rounds.csv").read_text()


def test_compare_tests_runs_by_all_pairs(
    watched_at_the_end: Run, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fit_small(root, tmp_path, "mlp")
    capsys.readouterr()
    folders = [str(watched_at_the_end.folder), str(other.folder)]
    assert main(["compare", *folders, "--metric", "test_all_accuracy", "--allow-different"]) == 0
    text = capsys.readouterr().out
    assert "paired by seed" in text
    assert (
        "Measured on all ordered pairs of two different images or on a sample of them, see each run's summary.json."
        in text
    )
    plain = fit_small(root, tmp_path, "mlp", data__all_pairs=[])
    assert main(["compare", folders[0], str(plain.folder), "--metric", "test_all_accuracy"]) == 2
    assert "has no test_all_accuracy. Use one of train_accuracy" in capsys.readouterr().err


def test_failed_rounds_have_no_metrics_over_all_pairs(root: Path, tmp_path: Path) -> None:
    changes = {"model__optimizer": "torch.optim.SGD", "model__optimizer__init_args__lr": 1e30}
    run = fit_small(root, tmp_path, "mlp", data__watch_test="end", **changes)
    assert run.failed == list(SEEDS)
    assert not run.values("test_all_accuracy")
    assert all(np.isnan([result.test_all_accuracy, result.val_all_accuracy]).all() for result in run.rounds)
    assert main(["test", *build_checkpoint_arguments(run)]) == 0
    assert {(row["status"], row["test_all_accuracy"]) for row in read_rows(run.folder / "test.csv")} == {
        ("failed", "nan")
    }


def test_loggers_get_the_final_metrics(root: Path, tmp_path: Path) -> None:
    content = build_config(root, "softmax")
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path / "logs")}}
    content["trainer"]["logger"] = [logger]
    run = pairs_lit.fit(content, {"trainer.default_root_dir": tmp_path, "data.watch_test": "end"})
    (file,) = (tmp_path / "logs").rglob("metrics.csv")
    logged = read_rows(file)
    mean = np.mean(list(run.values("test_all_accuracy").values()))
    assert float(logged[-1]["final/test_all_accuracy"]) == pytest.approx(mean, abs=1e-6)
    assert not any(name.startswith("test/") for name in logged[0])


def run_sweep(root: Path, folder: Path, **sweep: object) -> Any:  # noqa: ANN401 - a Sweep
    content = {"space": {"model.loss.aux_weight": [0.5, 1.0]}, "rounds": {"count": 2, "seed": 4}, **sweep}
    return pairs_lit.sweep(build_config(root, "softmax"), content, {"trainer.default_root_dir": folder})


@pytest.mark.slow
def test_a_sweep_selects_by_all_validation_pairs_without_test_metrics(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    result = run_sweep(root, tmp_path, metric="val/all_accuracy", confirm={"count": 2, "seed": 50})
    for trial in result.trials:
        run = Run.load(trial.folder)
        assert trial.scores == run.values("val_all_accuracy")
        assert not any("test" in name for name in run.summary)
    separate = fit_small(root, tmp_path / "separate", "softmax", rounds__count=2, model__loss__aux_weight=1.0)
    (trial,) = (trial for trial in result.trials if trial.values["model.loss.aux_weight"] == 1.0)
    assert trial.scores == separate.values("val_all_accuracy")
    assert result.confirmed.metric == "test_all_accuracy"
    assert "test accuracy, all pairs" in str(result)


def test_a_sweep_cannot_select_by_a_missing_metric(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    content = build_config(root, "softmax")
    content["data"]["all_pairs"] = ["test"]
    sweep = {"space": {"model.loss.aux_weight": [0.5]}, "metric": "val/all_accuracy"}
    with pytest.raises(PairsLitError, match=r"val/all_accuracy, which is not measured\. Set data.all_pairs to \[val\]"):
        pairs_lit.sweep(content, sweep, {"trainer.default_root_dir": tmp_path})
    with pytest.raises(PairsLitError, match="metric must not be measured on the test set"):
        pairs_lit.sweep(content, sweep | {"metric": "test/all_accuracy"}, {"trainer.default_root_dir": tmp_path})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"all_pairs": "test"}, r"data.all_pairs must be a list such as \[test\] or \[val, test\], got 'test'."),
        ({"all_pairs": ["train"]}, "data.all_pairs must be one of 'val', 'test', got 'train'."),
        ({"watch_test": "never"}, "data.watch_test must be true, end or false, got 'never'."),
    ],
)
def test_invalid_options_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PairsLitError, match=message):
        PairDataModule(seeds=[0], source="digits", **settings)


def test_a_split_that_is_named_twice_is_evaluated_once() -> None:
    data = PairDataModule(seeds=[0], source="digits", all_pairs=["test", "test"])
    assert data.whole_splits == {"fit": ["test"], "validate": [], "test": ["test"]}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.all_pairs=[train]", "data.all_pairs: expected a list such as [val, test], got train"),
        ("--data.watch_test=never", "data.watch_test: expected true or false or 'end'"),
    ],
)
def test_the_command_line_rejects_invalid_options_with_a_short_error(
    option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", "fc_aux", option]) == 2
    assert message in capsys.readouterr().err


def test_a_batch_that_the_network_cannot_process_is_an_early_error(root: Path, tmp_path: Path) -> None:
    parts = {"model__network": "tests.training.test_all_pairs.NoFours", "model__loss__digits": "none"}
    with pytest.raises(
        PairsLitError, match=r"eval_batch_size is 502, so 506 pairs make a batch of 4, .* ValueError: four"
    ):
        fit_small(root, tmp_path, "network", data__eval_batch_size=502, **parts)


class NoFours(PairNet):
    """Raises an error for a batch of four pairs."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) == 4:
            raise ValueError("four")
        return super().forward(images)


def test_the_bundled_digits_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: Sequence[str] = [
        "--config=fc_aux", "--data.source=digits", "--data.train_pairs=100", "--rounds.count=2", "--data.test_pairs=50",
        "--trainer.max_epochs=1", "--trainer.devices=1", f"--trainer.default_root_dir={tmp_path}",
        "--data.all_pairs=[test]", "--data.watch_test=end", "--data.val_pairs=50",
    ]  # fmt: skip
    assert main(["fit", *options]) == 0
    assert "All pairs: test, all 89,700 ordered pairs of 300 images." in capsys.readouterr().out


@pytest.mark.slow
def test_a_sample_of_pairs_approximates_all_pairs(mnist_root: Path, tmp_path: Path) -> None:
    content = build_config(mnist_root, "softmax")
    content["data"] = {"root": str(mnist_root), "source": "mnist", "train_pairs": 300, "all_pairs": ["test"]}
    content["data"] |= {"val_pairs": 10, "test_pairs": 10, "normalise": "unit", "watch_test": "end"}
    content["rounds"] = {"count": 1, "seed": 0}
    exact = pairs_lit.fit(content, {"trainer.default_root_dir": tmp_path})
    (accuracy,) = exact.values("test_all_accuracy").values()
    images, labels = read_images(mnist_root, "t10k")
    is_correct = []
    for sample in build_ordered_pairs(len(labels)).split(20_000):
        with torch.no_grad():
            p, _ = exact.network(0)(exact.trained.preprocessing(0)(images[sample]))
        is_correct.append((p > 0.5) == (labels[sample][:, 0] <= labels[sample][:, 1]))
    approximate = float(torch.cat(is_correct).double().mean())
    assert 0.6 < accuracy < 1
    assert approximate != accuracy
    assert approximate == pytest.approx(accuracy, abs=4 * 0.5 / 200_000**0.5)

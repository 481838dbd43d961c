import re
from functools import partial
from pathlib import Path

import pytest

from pairs_lit.data.loaders import bound_batch_size
from pairs_lit.errors import PairsLitError
from pairs_lit.training.batch_checks import check_batches
from tests.conftest import CONFIGS, Fit
from tests.support.runs import run_rejected

PARTS = "tests.support.real_world_parts"


MODEL4 = str(CONFIGS / "reports" / "pillonel" / "model4.yaml")


ONE_PAIR = {
    "--data.train_pairs 41 --data.batch_size 40 --model.head.hidden [10] --model.head.batch_norm true":
        r"data.batch_size is 40, so 41 pairs make a batch of 1, .* Expected more than 1 value per channel.*"
        r"set data.batch_size to 38, 39 or 41",
    f"--data.train_pairs 41 --data.batch_size 40 --model.head {PARTS}.NormInForward": "make a batch of 1",
    "--data.batch_size 1 --model.head.hidden [10] --model.head.batch_norm true": "set data.batch_size to 2, 4 or 5",
    "--data.train_pairs 1 --model.head.hidden [10] --model.head.batch_norm true": "Use at least 2 pairs",
}  # fmt: skip


class TestBatchesThatTheNetworkCannotProcess:
    @pytest.mark.parametrize("options", ONE_PAIR)
    def test_error_suggests_batch_sizes_that_work(
        self, options: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = ["--trainer.default_root_dir", str(tmp_path)]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root, *options.split()]
        assert re.search(ONE_PAIR[options], run_rejected(arguments, capsys))
        assert not list(tmp_path.iterdir())

    def test_error_for_a_bundled_config(self, tiny_options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--data.train_pairs", "100", "--data.batch_size", "33", "--rounds.count", "1"]
        assert re.search(
            "set data.batch_size to .*3[24]", run_rejected(["fit", "--config", MODEL4, *tiny_options, *options], capsys)
        )

    @pytest.mark.parametrize("size", ["38", "39", "41"])
    def test_suggested_batch_sizes_can_be_trained(self, size: str, fit: Fit) -> None:
        options = "--data.train_pairs 41 --model.head.hidden [10] --model.head.batch_norm true --data.batch_size"
        fit(*options.split(), size, config="fc_aux")

    def test_swapped_pairs_are_counted(self, fit: Fit) -> None:
        """41 pairs and the 41 swapped pairs, in batches of 40, leave a last batch of two."""
        options = "--data.train_pairs 41 --data.batch_size 40 --data.swap relabel --model.head.hidden [10] "
        fit(*options.split(), "--model.head.batch_norm", "true", config="fc_aux")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--data.batch_size 3 --model.head {}.Squeezes", r"a batch of 1, .*: it gives an output of shape \(2,\)"),
            ("--data.batch_size 30 --model.head {}.NeedsTwenty", "set data.batch_size to 1[0-9], 1[0-9] or 20"),
            ("--data.batch_size 39 --model.head {}.NeedsTwenty", "set data.batch_size to 1[0-9], 1[0-9] or 20"),
            ("--model.head {}.WritesIntoWhatItNeeds", "trained on a batch of 8 pairs: RuntimeError: one of"),
            ("--data.eval_batch_size 29 --model.head {}.Squeezes", "eval_batch_size is 29, .* cannot be evaluated: it"),
            ("--data.eval_batch_size 29 --model.backbone {}.BatchStatistics --model.sharing separate",
             "eval_batch_size is 29, so 30 pairs make a batch of 1"),
        ],
    )  # fmt: skip
    @pytest.mark.quick(2)
    def test_any_batch_that_fails_is_an_error(
        self, options: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = [
            "--trainer.default_root_dir",
            str(tmp_path),
            "--model.loss.target",
            "ce" if "Squeezes" in options else "bce",
        ]
        arguments = ["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *tiny_options, *root]
        assert re.search(message, run_rejected([*arguments, *options.format(PARTS).split()], capsys))
        assert not list(tmp_path.iterdir())

    def test_suggestions_take_the_last_batch_into_account(self) -> None:
        """Of the sizes 10 to 20, only 12, 16, 17 and 18 leave a last batch of 10 pairs or more."""
        with pytest.raises(PairsLitError, match=r"set data.batch_size to 16, 17 or 18\."):
            check_batches(lambda size: None if 10 <= size <= 20 else "no", [46], 20, "data.batch_size", "trained")

    def test_smaller_batches_of_large_images_are_tried(self) -> None:
        """Of images of 56×56, 28 to 31 make batches of 7 pairs, 32 to 35 of 8, so that three pairs are left."""
        bound = partial(bound_batch_size, image_size=56)
        with pytest.raises(PairsLitError, match=r"is 44, so 35 pairs make a batch of 2, .*size to 29, 30 or 31\."):
            check_batches(lambda size: None if size > 4 else "no", [35], 44, "data.eval_batch_size", "evaluated", bound)

    def test_batch_norm_without_running_statistics(self, fit: Fit) -> None:
        fit("--model.backbone", f"{PARTS}.BatchStatistics", config="fc_aux")

import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.checkpoints.values import to_plain_values
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from tests.conftest import CONFIGS, Fit
from tests.support.real_world_parts import KeepsThings
from tests.support.runs import build_checkpoint_arguments, read_tables, run_rejected

PARTS = "tests.support.real_world_parts"


class TestSavedValues:
    def test_a_schedule_of_numpy_numbers(self, fit: Fit) -> None:
        scheduler = ["--model.lr_scheduler", "torch.optim.lr_scheduler.LambdaLR"]
        run = fit(*scheduler, "--model.lr_scheduler.lr_lambda", f"{PARTS}.cosine", config="fc_aux")
        before = read_tables(run)
        assert main(["test", *build_checkpoint_arguments(run)]) == 0
        assert main(["fit", *build_checkpoint_arguments(run)]) == 0
        assert read_tables(run) == before

    def test_the_state_of_a_callback_is_converted_to_plain_values(self, fit: Fit) -> None:
        run = fit("--trainer.callbacks", f"{PARTS}.KeepsThings", config="fc_aux")
        state = read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]["KeepsThings"]
        assert torch.equal(state.pop("array"), torch.arange(3.0, dtype=torch.float64))
        assert state == {"number": 0.5, "path": "a/b", "last": [1, 2], "seen": [1, 3], "by_kind": {"a": 2, "b": 1}}
        callback = KeepsThings()
        callback.load_state_dict(state)
        assert main(["fit", *build_checkpoint_arguments(run), "--trainer.max_epochs", "3"]) == 0

    def test_values_that_cannot_be_converted_are_rejected_at_the_first_save(
        self, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1000"]
        options += ["--trainer.callbacks", f"{PARTS}.KeepsAModule"]
        message = run_rejected(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search(
            r"no checkpoint can hold callbacks\['KeepsAModule'\]\['things'\]\[1\]\['inner'\], a torch.nn", message
        )
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_the_extra_state_of_a_module_is_saved_and_loaded(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.KeepsMore", config="fc_aux")
        before = read_tables(run)
        assert main(["test", *build_checkpoint_arguments(run)]) == 0
        assert main(["fit", *build_checkpoint_arguments(run)]) == 0
        assert read_tables(run) == before

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("late", r"branch.copies.0.kept is float32 \(16, 10\), but was not there when it was built"),
            ("batch", r"kept is float32 \(16, 10\), but was float32 \(2, 3\) when it was built. Create it in the con"),
            ("queue", r"kept is float32 \(5, 3\), but was float32 \(2, 3\)"),
            ("strides", r"kept is float32 \(2, 3\) with strides \(1, 2\), but was float32 \(2, 3\)"),
            ("type", r"kept is int64 \(2, 3\), but was float32 \(2, 3\)"),
        ],
    )
    @pytest.mark.quick(2)
    def test_state_that_no_command_could_load_is_rejected_at_the_first_save(
        self, kind: str, message: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1000"]
        options += ["--model.backbone", f"{PARTS}.ChangesForm", "--model.backbone.kind", kind]
        error = run_rejected(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search("no checkpoint could be resumed: the network's .*" + message, error)
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_an_extra_state_that_grows(self, fit: Fit) -> None:
        run = fit("--model.backbone", f"{PARTS}.GrowingExtraState", config="fc_aux")
        before = read_tables(run)
        assert main(["test", *build_checkpoint_arguments(run)]) == 0
        assert main(["fit", *build_checkpoint_arguments(run)]) == 0
        assert read_tables(run) == before

    @pytest.mark.parametrize("name", ["hyper_parameters", "loops", "epoch"])
    def test_a_callback_must_not_change_entries_of_pairs_lit(
        self, name: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = [*tiny_options, "--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks"]
        options += [f"{PARTS}.ChangesCheckpoint", "--trainer.callbacks.name", name]
        error = run_rejected(["fit", "--config", str(CONFIGS / "fc_aux.yaml"), *options], capsys)
        assert re.search(
            "a callback's on_save_checkpoint changed (an entry of pairs-lit|the checkpoint's epoch)", error
        )
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_a_callback_may_add_its_own_entry(self, fit: Fit) -> None:
        run = fit("--trainer.callbacks", f"{PARTS}.ChangesCheckpoint", "--trainer.callbacks.name", "note")
        assert main(["test", *build_checkpoint_arguments(run)]) == 0

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\x00\xff",
            bytearray(b"a"),
            2**1999,
            -(2**1999),
            np.arange(3, dtype=">i4"),
            np.zeros((2, 0)),
            {(1, 2): 3},
        ],
    )
    def test_saved_values_can_be_loaded(self, value: object, tmp_path: Path) -> None:
        torch.save(to_plain_values(value, "x"), tmp_path / "x.pt")
        loaded = torch.load(tmp_path / "x.pt", weights_only=True)
        np.testing.assert_array_equal(loaded, value) if isinstance(value, np.ndarray) else self._same(loaded, value)

    @staticmethod
    def _same(loaded: object, value: object) -> None:
        assert loaded == value

    @pytest.mark.parametrize("kind", [int, float, str, bytes, complex])
    def test_a_subclass_of_a_plain_type_is_converted_despite_its_overrides(self, kind: type) -> None:
        overrides = {f"__{name}__": lambda _: kind("9") for name in ("int", "float", "str", "bytes", "complex")}
        value = type("Overriding", (kind,), overrides)(*([b"1"] if kind is bytes else ["1"]))
        converted = to_plain_values(value, "x")
        assert type(converted) is kind
        assert converted == value

    @pytest.mark.parametrize("key", [frozenset({1}), (1, frozenset({2})), Path("a")])
    def test_keys_that_cannot_be_converted_are_rejected(self, key: object) -> None:
        with pytest.raises(PairsLitError, match=r"no checkpoint can hold x: its key .* cannot be converted to a pl"):
            to_plain_values({"a": 1, key: 2}, "x")

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (np.float64(1.5), 1.5),
            (np.bool_(True), True),
            (np.str_("a"), "a"),
            (np.array(3), 3),
            (np.array(["a", "b"]), ["a", "b"]),
            ({np.int64(1): (np.int32(2), [None])}, {1: (2, [None])}),
            (signal.SIGINT, 2),
            (frozenset({2, 1}), [1, 2]),
            (torch.Size([2]), torch.Size([2])),
        ],
    )
    def test_values_are_converted(self, value: object, expected: object) -> None:
        converted = to_plain_values(value, "x")
        assert converted == expected
        assert type(converted) is type(expected)

    def test_a_parameter_becomes_a_tensor_and_an_array_a_copy(self) -> None:
        array = np.ones(2)
        converted = to_plain_values({"array": array, "parameter": nn.Parameter(torch.ones(1))}, "x")
        array[:] = 0
        assert torch.equal(converted["array"], torch.ones(2, dtype=torch.float64))
        assert type(converted["parameter"]) is torch.Tensor

    def test_a_value_that_contains_itself_is_rejected(self) -> None:
        loop: list[object] = []
        loop.append(loop)
        with pytest.raises(
            PairsLitError, match=r"no checkpoint can hold x\[0\].*, which is nested too deeply or contains itself"
        ):
            to_plain_values(loop, "x")

    @pytest.mark.parametrize(
        "value",
        [
            object(),
            torch.ones(2).to_sparse(),
            np.longdouble(1),
            lambda: 0,
            range,
            2**2001,
            np.ma.masked_array([1], [1]),
        ],
    )
    def test_values_that_cannot_be_converted_are_rejected(self, value: object) -> None:
        with pytest.raises(PairsLitError, match=r"no checkpoint can hold x, a .*\. Leave it out, or convert it to num"):
            to_plain_values(value, "x")

import pytest
import torch

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.heads import MLP
from pairs_lit.training.module import PairModule
from tests.conftest import Fit


class TestLoadFromCheckpoint:
    def test_weights_are_loaded_with_the_arguments_of_the_run(self, fit: Fit) -> None:
        run = fit("--model.code_activation", "none", config="fc_aux")
        file = run / "checkpoints" / "last.ckpt"
        parts = {"backbone": FC, "head": MLP, "readout": "identity"}
        module = PairModule.load_from_checkpoint(file, seeds=[0, 1, 2], **parts)
        saved = read_checkpoint(file)["state_dict"]
        assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"backbone": FC},
                r"load_from_checkpoint: TypeError: .*'seeds'.*\. Pass the arguments of the trained module",
            ),
            (
                {"seeds": [0, 1, 2], "backbone": FC, "head": MLP},
                "does not match the config: network is readout: identity",
            ),
            ({"seeds": [0, 1], "backbone": FC, "head": MLP}, r"seeds is \[0, 1, 2\] in the checkpoint"),
        ],
    )
    def test_other_arguments_are_rejected(self, arguments: dict[str, object], message: str, fit: Fit) -> None:
        file = fit("--model.code_activation", "none", config="fc_aux") / "checkpoints" / "last.ckpt"
        with pytest.raises(PairsLitError, match=message):
            PairModule.load_from_checkpoint(file, **arguments)

"""Loading of earlier checkpoints, which stored separate backbones as one stack of 2·R networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pairs_lit.cli import main
from tests.conftest import Fit

KINDS = {
    "side by side": "pairs_lit.nn.backbones.FC",
    "in a loop": "tests.support.real_world_parts.Altered",
}


def interleave_rows(first: Tensor, second: Tensor) -> Tensor:
    """Return the rows of two tensors in alternation."""
    return torch.stack([first, second], 1).flatten(0, 1) if first.dim() else first


def convert_to_earlier_layout(checkpoint: Mapping[str, Any], order: list[str]) -> dict[str, Any]:
    """Convert a checkpoint to the earlier layout.

    Args:
        checkpoint: The checkpoint in the present layout.
        order: The names of the parameters that its optimizer trains.
    """
    state, optimizer_state = checkpoint["state_dict"], checkpoint["optimizer_states"][0]["state"]
    by_name = {name: optimizer_state[number] for number, name in enumerate(order)}
    weights: dict[str, Tensor] = {}
    moments: dict[str, Any] = {}
    for stack in sorted({name.split(".")[1] for name in state}):
        stack_names = [name for name in state if name.startswith(f"stacks.{stack}.")]
        branch_names = [name for name in stack_names if ".branch." in name]
        if any(".copies." in name for name in branch_names):
            copies = 1 + max(int(name.split(".")[4]) for name in branch_names)
            for copy in range(copies):
                for position, branch in enumerate(("branch", "second_branch")):
                    prefix = f"stacks.{stack}.{branch}.copies.{copy}."
                    for name in (candidate for candidate in stack_names if candidate.startswith(prefix)):
                        earlier = f"stacks.{stack}.branch.copies.{2 * copy + position}.{name.removeprefix(prefix)}"
                        weights[earlier] = state[name]
                        moments |= {earlier: by_name[name]} if name in by_name else {}
        else:
            for name in branch_names:
                second = name.replace(".branch.", ".second_branch.")
                weights[name] = interleave_rows(state[name], state[second])
                if name in by_name:
                    pairs = zip(by_name[name].items(), by_name[second].values(), strict=True)
                    moments[name] = {entry: interleave_rows(value, other) for (entry, value), other in pairs}
        rest = [name for name in stack_names if "branch." not in name]
        weights |= {name: state[name] for name in rest}
        moments |= {name: by_name[name] for name in rest if name in by_name}
    optimizer = {**checkpoint["optimizer_states"][0], "state": dict(enumerate(moments.values()))}
    gradients = checkpoint["code"]["training"]["gradients"]
    checkpoint["code"]["training"]["gradients"] = gradients[:, : len(moments)]  # one for both backbones
    return {**checkpoint, "state_dict": weights, "optimizer_states": [optimizer]}


@pytest.mark.parametrize("backbone", KINDS.values(), ids=KINDS.keys())
def test_a_fit_resumes_exactly_from_an_earlier_checkpoint(backbone: str, fit: Fit) -> None:
    options = ["--model.sharing", "separate", "--rounds.stack_size", "2", "--model.backbone", backbone]
    options += ["--model.backbone.widths", "[12, 10]"] if "FC" in backbone else []
    options += ["--model.readout", "linear"]
    run, longer = (fit(*options, "--trainer.max_epochs", epochs, config="fc_aux") for epochs in ("2", "4"))
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    order = [name for name in checkpoint["state_dict"] if "weight" in name or "bias" in name]
    torch.save(convert_to_earlier_layout(checkpoint, order), last)
    assert not [name for name in torch.load(last, weights_only=True)["state_dict"] if "second" in name]
    assert main(["test", str(run)]) == 0
    assert main(["fit", str(run), "--trainer.max_epochs", "4"]) == 0
    assert read_tables(run) == read_tables(longer)


def read_tables(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("rounds.csv", "curves.csv")]

"""``predictions.csv``: every round's answers for one common set of pairs."""

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pairs_lit.checkpoints.files import folder_of
from pairs_lit.data.datamodule import data_of
from pairs_lit.data.loaders import StackBatch
from pairs_lit.runs.run_folder import PREDICTIONS
from pairs_lit.runs.tables import with_note, write_csv
from pairs_lit.system.lightning_hooks import spares_batches
from pairs_lit.text import counted, sentence
from pairs_lit.training.module import PairModule
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.workers.strategy import gathered


@spares_batches
class PredictionWriter(Callback):
    """Writes P(relation) of every round for the test pairs of the first seed, into the checkpoint's run folder.

    Columns: pair, first_digit, second_digit, target, mean (of P over the rounds), seed_0, seed_1 and so on; where
    classes have names, first_name and second_name at the end.

    Args:
        runner: The runner of the rounds.
        name: What a new run folder is called after.

    Attributes:
        text: What to show at the end.
    """

    def __init__(self, runner: RoundRunner, name: str = "run") -> None:
        self._runner = runner
        self._name = name
        self.text = ""
        self._stacks: dict[int, list[Tensor]] = {}

    def on_predict_batch_end(  # the last two arguments are Lightning's
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: StackBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the probabilities of one batch of one stack, (R, B)."""
        self._stacks.setdefault(batch.stack, []).append(outputs.cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        stacks = {stack: parts for each in gathered(trainer, self._stacks) for stack, parts in each.items()}
        if not trainer.is_global_zero:
            return
        p = torch.cat([torch.cat(stacks[stack], 1) for stack in sorted(stacks)]).double()
        bank = data_of(trainer).bank
        pairs, names = bank.pairs["test"], bank.class_names
        known = torch.cat([pairs.digits[0], pairs.target[0, :, None]], 1).tolist()
        said = torch.cat([p.mean(0)[:, None], p.T], 1).tolist()
        path = folder_of(trainer, self._name) / PREDICTIONS
        header = [
            "pair",
            "first_digit",
            "second_digit",
            "target",
            "mean",
            *(f"seed_{seed}" for seed in self._runner.seeds),
            *(("first_name", "second_name") if names else ()),
        ]
        note = cast(PairModule, pl_module).code.note
        named = [[names[digit] for digit in both] if names else [] for both in pairs.digits[0].tolist()]
        rows = ([pair, *known[pair], *said[pair], *named[pair]] for pair in range(len(known)))
        write_csv(path, *with_note(header, rows, note))
        parts = [f"{counted(len(p), 'round')}, {counted(p.shape[1], 'pair')}", sentence(note), f"predictions: {path}"]
        self.text = "\n\n".join(filter(None, parts))

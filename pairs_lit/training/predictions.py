"""The table ``predictions.csv``: every round's predictions for one common set of pairs."""

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pairs_lit.checkpoints.files import choose_run_folder
from pairs_lit.data.datamodule import get_data_module
from pairs_lit.data.loaders import StackBatch
from pairs_lit.runs.run_folder import PREDICTIONS_FILE
from pairs_lit.runs.tables import add_note_column, write_csv
from pairs_lit.system.lightning_hooks import skip_batch_hooks
from pairs_lit.text import format_count, format_sentence
from pairs_lit.training.module import PairModule
from pairs_lit.training.round_runner import RoundRunner
from pairs_lit.workers.strategy import gather_parts


@skip_batch_hooks
class PredictionWriter(Callback):
    """Writes P(relation) of every round for the test pairs of the first seed, into the checkpoint's run folder.

    The columns are pair, first_digit, second_digit, target, mean (of P over the rounds), seed_0, seed_1 and so on. If
    the classes have names, first_name and second_name follow.

    Args:
        runner: The runner of the rounds.
        name: The name of a new run folder, if one is needed.

    Attributes:
        text: The text to show when the command has finished.
    """

    def __init__(self, runner: RoundRunner, name: str = "run") -> None:
        self._runner = runner
        self._name = name
        self.text = ""
        self._probabilities: dict[int, list[Tensor]] = {}

    def on_predict_batch_end(  # the last two arguments are Lightning's
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: StackBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Store the probabilities of one batch of one stack, (R, B), on their device."""
        self._probabilities.setdefault(batch.stack, []).append(outputs)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        measured = {stack: torch.cat(batches, 1).cpu() for stack, batches in self._probabilities.items()}
        stacks = {stack: values for part in gather_parts(trainer, measured) for stack, values in part.items()}
        if not trainer.is_global_zero:
            return
        p = torch.cat([stacks[stack] for stack in sorted(stacks)]).double()
        bank = get_data_module(trainer).bank
        pairs, names = bank.pairs["test"], bank.class_names
        labels = torch.cat([pairs.digits[0], pairs.target[0, :, None]], 1).tolist()
        probabilities = torch.cat([p.mean(0)[:, None], p.T], 1).tolist()
        path = choose_run_folder(trainer, self._name) / PREDICTIONS_FILE
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
        label_names = [[names[digit] for digit in digits] if names else [] for digits in pairs.digits[0].tolist()]
        rows = ([pair, *labels[pair], *probabilities[pair], *label_names[pair]] for pair in range(len(labels)))
        write_csv(path, *add_note_column(header, rows, note))
        parts = [
            f"{format_count(len(p), 'round')}, {format_count(p.shape[1], 'pair')}",
            format_sentence(note),
            f"predictions: {path}",
        ]
        self.text = "\n\n".join(filter(None, parts))

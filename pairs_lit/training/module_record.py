"""Checkpoint metadata: the rounds, data and network that weights belong to, and what the networks compute."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lightning.pytorch import Trainer

from pairs_lit.checkpoints.files import IMAGE_FORMAT_KEY, METADATA_KEY, NETWORK_KEY, add_metadata
from pairs_lit.checkpoints.schema import StateSchema
from pairs_lit.data.datamodule import PairDataModule, get_data_module
from pairs_lit.rounds import Rounds
from pairs_lit.training.code_check import CODE_KEY, CodeCheck, check_weights
from pairs_lit.workers.strategy import gather_parts


class CheckpointMetadata:
    """Adds metadata to the checkpoints of a module, and checks the metadata of checkpoints that it loads.

    Args:
        state: The state of the new module, which has the schema that checkpoints must match.
        rounds: The module's rounds.
        members: The number of ensemble members of a round.
        network: The description of the network.
        code: The check of the network's code.
    """

    def __init__(
        self, state: Mapping[str, Any], rounds: Rounds, members: int, network: Sequence[str], code: CodeCheck
    ) -> None:
        self._schema = StateSchema(state)
        self._rounds, self._members, self._network, self._code = rounds, members, network, code

    def _build_metadata(self, data: PairDataModule | None) -> dict[str, Any]:
        """Return the metadata of the rounds, of the network and, if given, of the training data."""
        rounds = {"seeds": self._rounds.seeds, "members": self._members, "stack_size": self._rounds.stack_size}
        settings = {} if data is None else data.reading | asdict(data.settings)
        return {**rounds, **settings, NETWORK_KEY: self._network}

    def write(self, checkpoint: dict[str, Any], trainer: Trainer) -> None:
        """Add the metadata, the image format and the record of the network's code to a checkpoint."""
        data = get_data_module(trainer)
        record = self._build_metadata(data) | {IMAGE_FORMAT_KEY: data.bank.image_format.to_text()}
        add_metadata(checkpoint, self._schema, record, trainer)
        stacks = self._rounds.get_worker_stacks(trainer.global_rank, trainer.world_size)
        observed = gather_parts(trainer, self._code.observe_stacks(stacks, data.normalise))
        checkpoint[CODE_KEY] = self._code.build_record(
            {stack: values for part in observed for stack, values in part.items()}
        )

    def check(self, checkpoint: Mapping[str, Any], data: PairDataModule | None, stage: str | None) -> None:
        """Raise PairsLitError if a checkpoint's weights do not belong to this module.

        Args:
            checkpoint: The checkpoint.
            data: The data that the module is trained or evaluated on, or None for networks without a trainer.
            stage: What the checkpoint is loaded for, as in :meth:`CodeCheck.check`.
        """
        self._code.has_changed = False
        check_weights(checkpoint, self._schema, self._build_metadata(data), self._code, stage)

    def check_code(self, checkpoint: Mapping[str, Any], stage: str | None) -> None:
        """Raise PairsLitError if the networks, with the loaded weights, do not compute what they did in the fit."""
        if CODE_KEY in checkpoint:  # earlier releases did not record it
            normalise = checkpoint[METADATA_KEY].get("normalise")
            self._code.check(checkpoint[CODE_KEY], normalise, checkpoint["epoch"], stage=stage)

"""The LightningModule that trains all rounds of one network, in stacks."""

from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pairs_lit.checkpoints.earlier_layout import convert_separate_backbones
from pairs_lit.checkpoints.files import prepare_for_loading, read_checkpoint
from pairs_lit.data.datamodule import get_data_module
from pairs_lit.data.loaders import StackBatch
from pairs_lit.data.pair_store import SPLITS, Split
from pairs_lit.data.warps import Warp
from pairs_lit.errors import PairsLitError, check_choice, check_positive
from pairs_lit.nn.architecture import Architecture, NetworkFactory, Readout, Sharing, get_common_width
from pairs_lit.nn.backbones import BackboneFactory
from pairs_lit.nn.blocks import CodeActivation
from pairs_lit.nn.ensemble import average_outputs
from pairs_lit.nn.gpu_stack_size import choose_stack_size
from pairs_lit.nn.heads import HeadFactory
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import PairStack
from pairs_lit.nn.test_time_augmentation import Views, parse_views
from pairs_lit.relation import NUM_DIGITS, Relation
from pairs_lit.rounds import Rounds
from pairs_lit.runs.metrics import EPOCH_METRIC_NAMES
from pairs_lit.runs.run_folder import CONFIG_FILE, find_enclosing_run
from pairs_lit.stacking.looped import LoopedCopies, LoopedRounds
from pairs_lit.stacking.program.summary import describe_parts, describe_slow_parts
from pairs_lit.system.console import print_notice
from pairs_lit.system.lightning_hooks import keep_signature
from pairs_lit.system.paths import expand_user_path
from pairs_lit.system.tracebacks import format_reason
from pairs_lit.text import format_count
from pairs_lit.training.batch_losses import BatchLosses
from pairs_lit.training.code_check import CODE_KEY, CodeCheck
from pairs_lit.training.losses import LossParts, PairLoss
from pairs_lit.training.metrics import RoundMeans, compute_metrics, copy_values_to_cpu
from pairs_lit.training.module_record import CheckpointMetadata
from pairs_lit.training.optimization import Optimization, step_schedule
from pairs_lit.training.probe import Probe
from pairs_lit.training.recipes import Decay, Recipe, Variant


class PairModule(LightningModule):
    """All rounds of one network: stacks of seeded networks, trained side by side by one optimizer.

    Rounds are independent. Each step trains one stack on one batch, in which every round has its own pairs. The losses
    of the rounds are summed, so the gradient of each round is that of its loss alone, and the optimizer updates each
    element by itself.

    Args:
        seeds: The seeds of the rounds (on the command line: from ``rounds``).
        network: A whole pair network, in place of backbone, sharing, readout, code_activation and head. It turns pairs
            (N, 2, H, W) into the prediction, (N,), (N, 1) or (N, 2) logits, or into (prediction, digit logits
            (N, 2, K)). It is built from (2, H, W), or without arguments.
        backbone: Turns an image (N, C, H, W) into an embedding (N, F); built from (channels, H, W), or without
            arguments.
        head: Turns the concatenated embeddings (N, W) into the prediction; built from W.
        stack_size: Rounds per stack (on the command line: from ``rounds``). null (the default): a fixed function of
            the network and the number of rounds, which suits CPUs. Only ``pairs-lit`` and ``pairs_lit.fit`` choose
            larger stacks for a GPU.
        image_size: H = W (on the command line: from ``data``).
        relation: The relation that probability heads compute (on the command line: from ``data``).
        classes: K, the number of image classes (on the command line: from ``data``).
        sharing: ``shared``: one backbone for both images; ``separate``: one for each; ``joint``: a pair is one image of
            two channels, and there are no digit logits.
        readout: Where digit logits come from. ``identity``: from the embedding itself, of width K; ``linear``: from a
            linear layer on each image's embedding; ``none``: there are no digit logits.
        code_activation: The activation between each image's embedding and the head; ``softmax`` is over the embedding.
        members: The number of ensemble members of a round, networks with different seeds. They train on the same pairs
            but independently, and the round's prediction is the mean of their probabilities.
        views: Test-time augmentation: a trained network evaluates several small warps of each image, and the prediction
            is the mean of the probabilities. ``standard``: 13 views (the original; shifted by 0.025 of its side,
            rotated by 6°, sheared by 0.12, 8 % wider or higher, each in both directions). Or a list of warps, such as
            ``[{}, {rotation: 6}]``, where ``{}`` is the original image. null (the default): none. Training and the
            curves never use it.
        loss: The weighted sum of target and digit loss.
        optimizer: A per-element optimizer: SGD, Adam, AdamW, NAdam, RAdam, RMSprop or Adagrad.
        lr_scheduler: A scheduler that steps once per epoch, or ``pairs_lit.training.schedules.WarmupCosine``, which
            steps with each step of a round. null (the default): none.
        decay: The parameters that the optimizer's weight_decay applies to. ``all``; or ``weights``: only those of
            linear, convolutional and embedding layers (with two dimensions or more), not biases or parameters of norms.

    Raises:
        PairsLitError: Parts do not fit together, or a part would couple rounds.
    """

    def __init__(
        self,
        *,
        seeds: list[int],
        network: NetworkFactory | None = None,
        backbone: BackboneFactory | None = None,
        head: HeadFactory | None = None,
        stack_size: int | None = None,
        image_size: int = 14,
        relation: Relation = "le",
        classes: int = NUM_DIGITS,
        sharing: Sharing = "shared",
        readout: Readout = "none",
        code_activation: CodeActivation = "none",
        members: int = 1,
        views: Literal["standard"] | list[Warp] | None = None,
        loss: PairLoss = PairLoss(),  # noqa: B008 - frozen
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        decay: Decay = "all",
    ) -> None:
        super().__init__()
        architecture = Architecture(
            backbone, head, sharing, readout, code_activation, relation, image_size, network, classes, members
        )
        check_choice("model.decay", Decay, decay)
        self.variant = Variant(architecture, loss, Recipe(optimizer, lr_scheduler, decay), parse_views(views))
        self.build(seeds, [self.variant], stack_size)

    def build(self, seeds: list[int], variants: Sequence[Variant], stack_size: int | None) -> None:
        """Build the stacks and everything that trains and checks them.

        Args:
            seeds: The seeds of the rounds, variant after variant.
            variants: The variants, which may differ only in what can differ between slices of one stack.
            stack_size: The rounds per stack, as in the constructor.
        """
        check_positive("the number of seeds", len(seeds))
        if stack_size is not None:
            check_positive("rounds.stack_size", stack_size)
        round_variants = [variant for variant in variants for _ in range(len(seeds) // len(variants))]
        self.architectures = [variant.architecture for variant in round_variants]
        self._architecture, self._loss = variants[0].architecture, variants[0].loss
        self._architecture.check_no_shared_parts(seeds[0])
        warps = variants[0].views
        self.views = Views(warps, self._architecture.image_size) if warps else None
        preferred_size = stack_size or choose_stack_size(self._architecture, seeds)
        self.rounds = Rounds([*seeds], min(preferred_size, len(seeds)), len(variants))
        self.pair_stacks = [
            PairStack.build(self._architecture, seeds[rounds], self.architectures[rounds])
            for rounds in self.rounds.stacks
        ]
        get_common_width({stack.width for stack in self.pair_stacks})
        self.stacks = nn.ModuleList(stack.network for stack in self.pair_stacks)
        self._losses = [
            BatchLosses([variant.loss for variant in round_variants[rounds]]) for rounds in self.rounds.stacks
        ]
        self.optimization = Optimization(self.stacks, self.rounds, [variant.recipe for variant in round_variants])
        self._means = nn.ModuleDict(
            {_get_metrics_key(split): RoundMeans(EPOCH_METRIC_NAMES, len(seeds), compute_metrics) for split in SPLITS}
        )
        self.probe = Probe(self._architecture, seeds[0], self._loss)
        findings = self.probe.run()
        self.measured, self.follows_from_digits = findings.metrics, findings.follows_from_digits
        self.code = CodeCheck(
            variants,
            self.rounds,
            self.pair_stacks,
            [losses.combined for losses in self._losses],
            repeats=findings.is_repeatable,
            draws=findings.is_random_in_evaluation,
        )
        members, network = self._architecture.members, self.pair_stacks[0].description
        self._checkpoint_metadata = CheckpointMetadata(self.state_dict(), self.rounds, members, network, self.code)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - torch's signature
        """Set an attribute, by a faster way than torch's for one that Lightning sets some forty times per step."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def describe(self) -> str:
        """Describe the stacks and how each part of the network is stacked."""
        sizes = [rounds.stop - rounds.start for rounds in self.rounds.stacks]
        first_sizes = ", ".join(map(str, sizes[:5])) + (", …" if len(sizes) > len(sizes[:5]) else "")
        first = self.pair_stacks[0]
        members = f" of {first.members} members" if first.members > 1 else ""
        rounds, stacks = format_count(len(self.rounds.seeds), "round"), format_count(len(sizes), "stack")
        return f"{rounds}{members} in {stacks} of {first_sizes}\n\n{describe_parts(first.network)}"

    @property
    def seeds(self) -> list[int]:
        """The seeds of the rounds."""
        return self.rounds.seeds

    @property
    def stack_size(self) -> int:
        """The largest number of rounds in a stack, for a ``PairDataModule`` built by hand."""
        return self.rounds.stack_size

    @property
    def mean_of(self) -> str:
        """The suffix of a title that names the ensemble members and views that a prediction is averaged over."""
        members, views = self._architecture.members, 0 if self.views is None else self.views.count
        return f" ({members} members)" * (members > 1) + f", {format_count(views, 'view')}" * (views > 0)

    @property
    def trains_digits(self) -> bool:
        """Whether the loss trains the networks to recognise digits, directly or through a head that compares digits."""
        compares_digits = self.follows_from_digits and self._architecture.readout == "identity"
        return self._loss.trains_digits or (compares_digits and self._loss.trains_target)

    @property
    def parameters_per_round(self) -> int:
        """The number of trainable parameters of one round, all ensemble members together."""
        return sum(value.numel() for value in self.parameters() if value.requires_grad) // len(self.rounds.seeds)

    def forward(self, images: Tensor) -> Tensor:
        """Return P(relation) as predicted by each of the R rounds, (R, B), in the module's present mode.

        Args:
            images: Images that are normalised like those of the rounds (``data.normalise``), as floats: pairs
                (B, 2, H, W) for all rounds, or different pairs for each round, (R, B, 2, H, W).

        Raises:
            PairsLitError: The images have another shape or type.
        """
        rounds, size = len(self.rounds.seeds), self._architecture.image_size
        round_images = images.expand(rounds, *images.shape) if images.dim() == 4 else images
        allowed = (rounds, *round_images.shape[1:2], 2, size, size)
        if round_images.shape != allowed or not images.is_floating_point():
            raise PairsLitError(
                f"images must be prepared floats of shape (B, 2, {size}, {size}) for all rounds, or ({rounds}, B, 2, "
                f"{size}, {size}) for each round, got shape {tuple(images.shape)} and {images.dtype}."
            )
        batches = (StackBatch.unlabelled(stack, round_images[part]) for stack, part in enumerate(self.rounds.stacks))
        return torch.cat([self.predict_batch(batch).get_probability() for batch in batches])

    def predict_batch(self, batch: StackBatch, *, views: bool = True) -> PairOutput:
        """Predict one batch with the rounds of a stack, (R, B), as means over ensemble members and views.

        Args:
            batch: The batch.
            views: Whether to use test-time augmentation (``model.views``), which only evaluation mode has.
        """
        members, warping = self._architecture.members, self.views if views and not self.training else None
        if members == 1 and warping is None:
            return self._predict_networks(batch)
        # one view at a time, which takes less memory
        image_views = [batch.images] if warping is None else warping.iterate_views(batch.images)
        outputs = (self._predict_networks(batch._replace(images=images)) for images in image_views)
        return average_outputs(outputs, members, self._architecture.relation)

    def _predict_networks(self, batch: StackBatch) -> PairOutput:
        """Predict one batch with each of the R·M networks of a stack, (R·M, B), round after round."""
        stack = self.pair_stacks[batch.stack]
        stack.clock.epoch, stack.clock.step, stack.clock.split = self.current_epoch, batch.step, batch.split
        return stack(batch.images)

    def shared_step(self, batch: StackBatch, *, views: bool = True) -> tuple[PairOutput, LossParts]:
        """Run one batch through its stack and add its metrics to those of its split.

        In training, outputs and losses are those of the R·M ensemble members, each of which is trained by itself, and
        the metrics of a round are means over its members. In evaluation, all are those of the R rounds' predictions.
        """
        output = self._predict_networks(batch) if self.training else self.predict_batch(batch, views=views)
        digits, target = batch.digits, batch.target
        networks_per_round = len(output.output) // len(target)
        if networks_per_round > 1:
            digits, target = (part.repeat_interleave(networks_per_round, 0) for part in (digits, target))
        losses, measured = self._losses[batch.stack](output, digits, target)
        means = cast(RoundMeans, self._means[_get_metrics_key(batch.split)])
        means.update(measured, self.rounds.stacks[batch.stack], target.shape[1])
        return output, losses

    @keep_signature
    def training_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Train one stack on one batch; the losses are summed, so no round or member changes another's gradient."""
        _, losses = self.shared_step(batch)
        self.optimization.begin_step(batch.stack, batch.step)
        return losses.total.sum()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing, since :meth:`training_step` clears the gradients of the only stack that has any."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Pass the gradients on to the parameter slices that different recipes train."""
        self.optimization.share_gradients()

    @keep_signature
    def validation_step(self, batch: StackBatch, batch_idx: int) -> None:
        """Evaluate one batch of validation pairs or, during a fit, of test pairs.

        During a fit there is no test-time augmentation, which would take about as long as an epoch.
        """
        self.shared_step(batch, views=self.trainer.state.fn != "fit")

    @keep_signature
    def test_step(self, batch: StackBatch, batch_idx: int) -> None:
        """Evaluate one batch of test pairs."""
        self.shared_step(batch)

    @keep_signature
    def predict_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Return P(relation) of the batch's pairs for each round of its stack, (R, B)."""
        return self.predict_batch(batch).get_probability()

    def collect(self) -> dict[str, Tensor]:
        """Return and reset the metrics, such as ``test/accuracy``, (R,) float64 each on the CPU."""
        collected: dict[str, Tensor] = {}
        copy_values_to_cpu([cast(RoundMeans, means) for means in self._means.values()])
        for split in SPLITS:
            means = cast(RoundMeans, self._means[_get_metrics_key(split)])
            if means.update_count == 0:
                continue
            values = means.compute()
            # torchmetrics squeezes a single value to a scalar, but one round must stay (1,)
            collected |= {f"{split}/{name}": values[name].reshape(-1).cpu() for name in self.measured}
            means.reset()
        return collected

    def find_stack(self, name: str) -> int | None:
        """Return the number of the stack that an entry of the state belongs to, or None if it belongs to none."""
        attribute, _, rest = name.partition(".")
        return int(rest.split(".")[0]) if attribute == "stacks" else None

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig | torch.optim.Optimizer:
        """Build the one optimizer of all stacks, which skips the parameters of stacks that a step does not train."""
        return self.optimization.build()

    def on_train_start(self) -> None:
        """Reset the optimizer and the schedule to the config's settings, which override those of a checkpoint."""
        trainer = cast(Any, self.trainer)
        for description in describe_slow_parts(self.stacks[0]) if trainer.is_global_zero else []:
            print_notice(f"{description}.")
        self.optimization.restart(self.current_epoch)
        self._begin_epoch(self.current_epoch)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Step the schedule."""
        step_schedule(scheduler, self.current_epoch + 1)
        self._begin_epoch(self.current_epoch + 1)

    def _begin_epoch(self, epoch: int) -> None:
        self.optimization.begin_epoch(epoch, cast(int, self.trainer.max_epochs), get_data_module(self.trainer).steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metadata and the record of the network's code to a checkpoint."""
        self._checkpoint_metadata.write(checkpoint, self.trainer)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,  # noqa: ANN401 - Lightning's signature, here and below
        map_location: Any = "cpu",  # noqa: ANN401
        hparams_file: Any = None,  # noqa: ANN401
        strict: bool | None = None,
        weights_only: bool | None = None,
        allow_changed_code: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Build a module and load the weights of a checkpoint, without executing anything in the file.

        Without ``kwargs``, the module is built from the ``config.yaml`` of the run folder that contains the checkpoint.
        A configuration names classes and so can run code. Like every new module, it is in training mode, so call
        ``eval()`` before you use its predictions.

        Args:
            checkpoint_path: The checkpoint, a local file.
            map_location: The device of the loaded tensors.
            hparams_file: Not used, since checkpoints do not record how to build a module.
            strict: Not used, since the weights must always match.
            weights_only: Not used, since only tensors and plain values are ever loaded.
            allow_changed_code: Whether to continue, with a notice, if the network's code has changed since the fit.
            **kwargs: The module's arguments, named as in the run's ``config.yaml``: ``seeds``, ``backbone`` and so on.

        Raises:
            PairsLitError: An argument is missing, the checkpoint is damaged or belongs to another network, or the
                network's code has changed since the fit.
        """
        path = expand_user_path(checkpoint_path)
        checkpoint = read_checkpoint(path, map_location)
        run = find_enclosing_run(path)
        if cls is PairModule and not kwargs and run is not None and (run / CONFIG_FILE).is_file():
            from pairs_lit.inference.open_run import open_run  # here, since that module imports this one

            opened = open_run(run, path, allow_changed_code=allow_changed_code)
            return cast(Self, opened.module.train())
        try:
            module = cls(**kwargs)
        except PairsLitError:
            raise
        except Exception as error:  # wrong arguments can lead to any error
            raise PairsLitError(
                f"PairModule.load_from_checkpoint: {format_reason(error)}. Pass the arguments of the trained "
                "module, named "
                "as in the run's config.yaml (seeds, backbone, head …), or use "
                "pairs_lit.Run.load(folder).network(seed), which reads that file itself."
            ) from error
        module.code.is_change_allowed, module.code.option = allow_changed_code, "allow_changed_code=True"
        module.load_weights(checkpoint)
        return module

    def load_weights(self, checkpoint: dict[str, Any]) -> None:
        """Load the weights of a checkpoint.

        Raises:
            PairsLitError: The weights belong to another network or to other rounds, or the network's code has changed.
        """
        self._convert_earlier_layout(checkpoint, [])
        self._checkpoint_metadata.check(checkpoint, None, None)
        self.load_state_dict(checkpoint["state_dict"])
        self._checkpoint_metadata.check_code(checkpoint, None)

    def _convert_earlier_layout(self, checkpoint: dict[str, Any], groups: Sequence[Sequence[str]]) -> None:
        """Convert a checkpoint of an earlier release to the present layout, in place."""
        branches = [stack.network.branch for stack in self.pair_stacks]
        looped = [number for number, branch in enumerate(branches) if isinstance(branch, LoopedCopies | LoopedRounds)]
        is_earlier = convert_separate_backbones(checkpoint, self.state_dict().keys(), groups, looped)
        match checkpoint.get(CODE_KEY):
            case {"training": dict(observed)} if is_earlier:
                observed.pop("gradients", None)  # earlier releases computed them over both backbones together

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check a checkpoint, then load it; raise PairsLitError if it is damaged or belongs to another config."""
        stage = cast(Any, self.trainer.state.fn).value
        groups = self.optimization.build_parameter_groups()
        self._convert_earlier_layout(checkpoint, [[view.name for view in group] for group in self.optimization.groups])
        self._checkpoint_metadata.check(checkpoint, get_data_module(self.trainer), stage)
        prepare_for_loading(checkpoint, self.trainer, groups)
        self.load_state_dict(checkpoint["state_dict"])
        self._checkpoint_metadata.check_code(checkpoint, stage)


def _get_metrics_key(split: Split) -> str:
    return f"on_{split}"  # a ModuleDict rejects the key "train", which is a method of every module

"""PairModule, the one LightningModule: all rounds of one network, in stacks."""

from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pairs_lit.checkpoints.earlier_layout import separate_backbones
from pairs_lit.checkpoints.files import prepare, read_checkpoint
from pairs_lit.data.datamodule import data_of
from pairs_lit.data.loaders import StackBatch
from pairs_lit.data.pair_store import SPLITS, Split
from pairs_lit.data.warps import Warp
from pairs_lit.errors import PairsLitError, check_choice, check_positive
from pairs_lit.nn.architecture import Architecture, NetworkFactory, Readout, Sharing, check_widths
from pairs_lit.nn.backbones import BackboneFactory
from pairs_lit.nn.blocks import CodeActivation
from pairs_lit.nn.ensemble import average
from pairs_lit.nn.heads import HeadFactory
from pairs_lit.nn.pair_output import PairOutput
from pairs_lit.nn.pair_stack import PairStack, default_stack_size
from pairs_lit.nn.test_time_augmentation import Views, warps_of
from pairs_lit.relation import DIGITS, Relation
from pairs_lit.rounds import Rounds
from pairs_lit.runs.metrics import PER_EPOCH
from pairs_lit.runs.run_folder import CONFIG, enclosing_run
from pairs_lit.stacking.looped import Apart, Loop
from pairs_lit.stacking.program.summary import describe_parts, describe_slow_parts
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path
from pairs_lit.system.tracebacks import reason_of
from pairs_lit.text import counted
from pairs_lit.training.code_check import CODE, CodeCheck
from pairs_lit.training.losses import LossParts, PairLoss, side_by_side
from pairs_lit.training.metrics import RoundMeans, measure
from pairs_lit.training.module_record import ModuleRecord
from pairs_lit.training.optimization import Optimization, step_schedule
from pairs_lit.training.probe import Probe
from pairs_lit.training.recipes import Decay, Recipe, Variant


class PairModule(LightningModule):
    """All rounds of one network: stacks of seeded comparers, trained side by side by one optimizer.

    Rounds share nothing: each step trains one stack on one batch of its own, the rounds' losses are summed, so each
    round's gradient is that of its own loss, and the optimizer works on each element by itself.

    Args:
        seeds: The seeds of the rounds (on the command line: from ``rounds``).
        network: A whole pair network, in place of backbone, sharing, readout, code_activation and head: turns pairs
            (N, 2, H, W) into the answer, (N,), (N, 1) or (N, 2) logits, or into (answer, digit logits (N, 2, K));
            made from (2, H, W), or from nothing.
        backbone: Turns an image (N, C, H, W) into a code (N, F); made from (channels, H, W), or from nothing.
        head: Turns the concatenated codes (N, W) into the answer; made from W.
        stack_size: Rounds a stack (on the command line: from ``rounds``); null: a fixed function of the
            network and the number of rounds.
        image_size: H = W (on the command line: from ``data``).
        relation: What a probability head compares by (on the command line: from ``data``).
        classes: K, how many classes the images have (on the command line: from ``data``).
        sharing: ``shared``: one backbone for both images; ``separate``: one each; ``joint``: a pair is one image of
            two channels, without digit logits.
        readout: Where digit logits come from: ``identity``: the code itself (of width K); ``linear``: a linear layer
            on each image's code; ``none``: nowhere.
        code_activation: The activation between each image's code and the head; ``softmax`` is over the code.
        members: How many networks, with seeds of their own, a round has. They see the same pairs, each is trained by
            itself, and the round's answer is the mean of their probabilities.
        views: Test-time views: trained networks are shown each image in several small warps, and the answer is the
            mean of the probabilities. ``standard``: 13 (as it is; shifted by 0.025 of its side, turned by 6°, sheared
            by 0.12, 8 % wider or higher, each both ways); or a list of warps, ``[{}, {rotation: 6}]``, where ``{}`` is
            the image as it is; null: none. Training and the curves are without.
        loss: The weighted sum of target and digit loss.
        optimizer: A per-element optimizer: SGD, Adam, AdamW, NAdam, RAdam, RMSprop or Adagrad.
        lr_scheduler: A scheduler that steps once an epoch, or ``pairs_lit.training.schedules.WarmupCosine``, which
            goes on with each step of a round; null: none.
        decay: What the optimizer's weight_decay is for: ``all`` parameters; or ``weights``, those of linear,
            convolutional and embedding layers (of two dimensions or more), not biases and what norms scale and shift
            by.

    Raises:
        PairsLitError: Parts do not fit together, or a part would mix rounds.
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
        classes: int = DIGITS,
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
        self.variant = Variant(architecture, loss, Recipe(optimizer, lr_scheduler, decay), warps_of(views))
        self.build(seeds, [self.variant], stack_size)

    def build(self, seeds: list[int], variants: Sequence[Variant], stack_size: int | None) -> None:
        """Build the stacks.

        Args:
            seeds: The seeds of the rounds, variant after variant.
            variants: What they train; they may differ as the slices of one stack can.
            stack_size: As the constructor's.
        """
        check_positive("the number of seeds", len(seeds))
        if stack_size is not None:
            check_positive("rounds.stack_size", stack_size)
        each = [variant for variant in variants for _ in range(len(seeds) // len(variants))]
        self.architectures = [variant.architecture for variant in each]
        self._architecture, self._loss = variants[0].architecture, variants[0].loss
        self._architecture.check_separate(seeds[0])
        warps = variants[0].views
        self.views = Views(warps, self._architecture.image_size) if warps else None
        wanted = stack_size or default_stack_size(self._architecture, seeds)
        self.rounds = Rounds([*seeds], min(wanted, len(seeds)), len(variants))
        self.pair_stacks = [
            PairStack.build(self._architecture, seeds[rounds], self.architectures[rounds])
            for rounds in self.rounds.stacks
        ]
        check_widths({stack.width for stack in self.pair_stacks})
        self.stacks = nn.ModuleList(stack.network for stack in self.pair_stacks)
        self._losses = [side_by_side([variant.loss for variant in each[rounds]]) for rounds in self.rounds.stacks]
        self.optimization = Optimization(self.stacks, self.rounds, [variant.recipe for variant in each])
        self._means = nn.ModuleDict({_key(split): RoundMeans(PER_EPOCH, len(seeds)) for split in SPLITS})
        self.probe = Probe(self._architecture, seeds[0], self._loss)
        found = self.probe.check()
        self.measured, self.follows_from_digits = found.measured, found.follows_from_digits
        self.code = CodeCheck(
            variants, self.rounds, self.pair_stacks, self._losses, repeats=found.repeats, draws=found.draws
        )
        members, network = self._architecture.members, self.pair_stacks[0].description
        self._record = ModuleRecord(self.state_dict(), self.rounds, members, network, self.code)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - torch's signature
        """Set an attribute; in every step Lightning sets this one some forty times, and torch's way is slow."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def described(self) -> str:
        """Return how the stacks work, in words."""
        sizes = [rounds.stop - rounds.start for rounds in self.rounds.stacks]
        shown = ", ".join(map(str, sizes[:5])) + (", …" if len(sizes) > len(sizes[:5]) else "")
        first = self.pair_stacks[0]
        members = f" of {first.members} members" if first.members > 1 else ""
        rounds, stacks = counted(len(self.rounds.seeds), "round"), counted(len(sizes), "stack")
        return f"{rounds}{members} in {stacks} of {shown}\n\n{describe_parts(first.network)}"

    @property
    def seeds(self) -> list[int]:
        """The seeds of the rounds, as ``rounds`` has them."""
        return self.rounds.seeds

    @property
    def stack_size(self) -> int:
        """The largest number of rounds in a stack, for a ``PairDataModule`` built by hand."""
        return self.rounds.stack_size

    @property
    def mean_of(self) -> str:
        """In words, what a round's answer is the mean of; empty: it is one network's to one view."""
        members, views = self._architecture.members, 0 if self.views is None else self.views.count
        return f" ({members} members)" * (members > 1) + f", {counted(views, 'view')}" * (views > 0)

    @property
    def trains_digits(self) -> bool:
        """Whether the loss trains the networks to name digits: as such, or through a head that compares digits."""
        compares_digits = self.follows_from_digits and self._architecture.readout == "identity"
        return self._loss.trains_digits or (compares_digits and self._loss.trains_target)

    @property
    def parameters_per_round(self) -> int:
        """The number of trainable parameters of one round, in all its members."""
        return sum(value.numel() for value in self.parameters() if value.requires_grad) // len(self.rounds.seeds)

    def forward(self, images: Tensor) -> Tensor:
        """Return P(relation) as each of the R rounds says it, (R, B), in the mode that the module is in.

        Args:
            images: Prepared as the rounds' images are (``data.normalise``): pairs (B, 2, H, W), shown to all rounds,
                or pairs for each round, (R, B, 2, H, W); floats.

        Raises:
            PairsLitError: They have another shape or type.
        """
        rounds, size = len(self.rounds.seeds), self._architecture.image_size
        each = images.expand(rounds, *images.shape) if images.dim() == 4 else images
        allowed = (rounds, *each.shape[1:2], 2, size, size)
        if each.shape != allowed or not images.is_floating_point():
            raise PairsLitError(
                f"images of shape {tuple(images.shape)} and {images.dtype}: give prepared floats, (B, 2, {size}, "
                f"{size}) for all rounds or ({rounds}, B, 2, {size}, {size}) for each."
            )
        batches = (StackBatch.unlabelled(stack, each[own]) for stack, own in enumerate(self.rounds.stacks))
        return torch.cat([self.compared(batch).probability() for batch in batches])

    def compared(self, batch: StackBatch, *, views: bool = True) -> PairOutput:
        """Return what the rounds of a stack say of one batch, (R, B): the mean over members and, if any, views.

        Args:
            batch: The batch.
            views: Show the images in ``model.views``, in evaluation mode; else as they are.
        """
        members, warping = self._architecture.members, self.views if views and not self.training else None
        if members == 1 and warping is None:
            return self._answer(batch)
        shown = [batch.images] if warping is None else warping.each(batch.images)  # one by one
        answers = (self._answer(batch._replace(images=images)) for images in shown)
        return average(answers, members, self._architecture.relation)

    def _answer(self, batch: StackBatch) -> PairOutput:
        """Return what each network of a stack says of one batch: R·M answers, (R·M, B), round after round."""
        stack = self.pair_stacks[batch.stack]
        stack.clock.epoch, stack.clock.step, stack.clock.split = self.current_epoch, batch.step, batch.split
        return stack(batch.images)

    def shared_step(self, batch: StackBatch, *, views: bool = True) -> tuple[PairOutput, LossParts]:
        """Run one batch through its stack and add its metrics to those of its split.

        In training, answers and losses are those of the R·M members, each of which learns by itself, and a round's
        metrics are the means over its members; in evaluation, they are those of the R rounds' answers.
        """
        comparison = self._answer(batch) if self.training else self.compared(batch, views=views)
        digits, target = batch.digits, batch.target
        each = len(comparison.output) // len(target)
        if each > 1:
            digits, target = (part.repeat_interleave(each, 0) for part in (digits, target))
        losses = self._losses[batch.stack](comparison, digits, target)
        values = measure(comparison, losses, digits, target)
        means = cast(RoundMeans, self._means[_key(batch.split)])
        values = values.view(len(values), -1, each).mean(2) if each > 1 else values
        means.update(values, self.rounds.stacks[batch.stack], target.shape[1])
        return comparison, losses

    def training_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Train one stack on one batch; all losses are summed, so no round or member changes another's gradient."""
        _, losses = self.shared_step(batch)
        self.optimization.begin_step(batch.stack, batch.step)
        return losses.total.sum()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing: :meth:`training_step` forgets the gradients of one stack, where this would look at all."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Hand the gradients to each recipe's part of a parameter."""
        self.optimization.share_gradients()

    def validation_step(self, batch: StackBatch, batch_idx: int) -> None:
        """Evaluate one batch of validation pairs or, while fitting, test pairs; views would cost an epoch's time."""
        self.shared_step(batch, views=self.trainer.state.fn != "fit")

    def test_step(self, batch: StackBatch, batch_idx: int) -> None:
        """Evaluate one batch of test pairs."""
        self.shared_step(batch)

    def predict_step(self, batch: StackBatch, batch_idx: int) -> Tensor:
        """Return P(relation) of the batch's pairs for each round of its stack, (R, B)."""
        return self.compared(batch).probability()

    def collect(self) -> dict[str, Tensor]:
        """Return and forget what was measured: ``test/accuracy`` and the like, (R,) float64 each on the CPU."""
        collected: dict[str, Tensor] = {}
        for split in SPLITS:
            means = cast(RoundMeans, self._means[_key(split)])
            if means.update_count == 0:
                continue
            values = means.compute()
            # torchmetrics makes a scalar of a single value: R = 1 must stay (1,)
            collected |= {f"{split}/{name}": values[name].reshape(-1).cpu() for name in self.measured}
            means.reset()
        return collected

    def stack_of(self, name: str) -> int | None:
        """Return which stack a parameter or another part of the state belongs to; None: it belongs to none."""
        room, _, rest = name.partition(".")
        return int(rest.split(".")[0]) if room == "stacks" else None

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig | torch.optim.Optimizer:
        """Build the one optimizer of all stacks; parameters of a stack that a step does not train are skipped."""
        return self.optimization.configure()

    def on_train_start(self) -> None:
        """Set the optimizer and the schedule as the config says for this epoch, whatever a checkpoint says."""
        trainer = cast(Any, self.trainer)
        for way in describe_slow_parts(self.stacks[0]) if trainer.is_global_zero else []:
            notice(f"{way}.")
        self.optimization.restart(self.current_epoch)
        self._begin_epoch(self.current_epoch)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Step the schedule."""
        step_schedule(scheduler, self.current_epoch + 1)
        self._begin_epoch(self.current_epoch + 1)

    def _begin_epoch(self, epoch: int) -> None:
        self.optimization.begin_epoch(epoch, cast(int, self.trainer.max_epochs), data_of(self.trainer).steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights belong to and compute, and what the training images look like."""
        self._record.write(checkpoint, self.trainer)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,  # noqa: ANN401 - Lightning's signature, as all that follows
        map_location: Any = "cpu",  # noqa: ANN401
        hparams_file: Any = None,  # noqa: ANN401
        strict: bool | None = None,
        weights_only: bool | None = None,
        allow_changed_code: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Build a module and give it the weights of a checkpoint; nothing in the file is executed.

        Without arguments, the module is built as the ``config.yaml`` says in whose run folder the checkpoint lies. A
        configuration names classes and so can run code. As every new module, it is in training mode: call ``eval()``
        before it answers.

        Args:
            checkpoint_path: The checkpoint, a local file.
            map_location: Where its tensors go.
            hparams_file: Not used: our checkpoints say nothing of how to build a module.
            strict: Not used: the weights must always fit.
            weights_only: Not used: nothing but tensors and plain values is ever loaded.
            allow_changed_code: Continue, with a notice, if the network's code has changed since the fit.
            **kwargs: The module's arguments, as the run's ``config.yaml`` names them: ``seeds``, ``backbone`` and so
                on.

        Raises:
            PairsLitError: An argument is missing, the checkpoint is damaged or belongs to another network, or the
                network's code has changed since the fit.
        """
        path = user_path(checkpoint_path)
        checkpoint = read_checkpoint(path, map_location)
        run = enclosing_run(path)
        if cls is PairModule and not kwargs and run is not None and (run / CONFIG).is_file():
            from pairs_lit.inference.open_run import open_run  # Lightning expects a classmethod that needs no arguments

            opened = open_run(run, path, allow_changed_code=allow_changed_code)
            return cast(Self, opened.module.train())
        try:
            module = cls(**kwargs)
        except PairsLitError:
            raise
        except Exception as error:  # whatever arguments of another kind lead to
            raise PairsLitError(
                f"PairModule.load_from_checkpoint: {reason_of(error)}: give the arguments of the module that was "
                "trained, as the run's config.yaml names them (seeds, backbone, head …), or use "
                "pairs_lit.Run.load(folder).network(seed), which asks that file itself."
            ) from error
        module.code.may_change, module.code.option = allow_changed_code, "allow_changed_code=True"
        module.load_weights(checkpoint)
        return module

    def load_weights(self, checkpoint: dict[str, Any]) -> None:
        """Load the weights of a checkpoint.

        Raises:
            PairsLitError: They belong to another network, or to other rounds, or the network's code has changed.
        """
        self._modernise(checkpoint, [])
        self._record.check(checkpoint, None, None)
        self.load_state_dict(checkpoint["state_dict"])
        self._record.check_code(checkpoint, None)

    def _modernise(self, checkpoint: dict[str, Any], groups: Sequence[Sequence[str]]) -> None:
        """Give a checkpoint of an earlier release today's layout."""
        branches = [stack.network.branch for stack in self.pair_stacks]
        looped = [number for number, branch in enumerate(branches) if isinstance(branch, Loop | Apart)]
        is_earlier = separate_backbones(checkpoint, self.state_dict().keys(), groups, looped)
        match checkpoint.get(CODE):
            case {"training": dict(observed)} if is_earlier:
                observed.pop("gradients", None)  # were measured over both backbones together

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise PairsLitError if a checkpoint is damaged or another configuration's, before anything of it is used."""
        stage = cast(Any, self.trainer.state.fn).value
        groups = self.optimization.parameter_groups()
        self._modernise(checkpoint, [[view.name for view in group] for group in self.optimization.groups])
        self._record.check(checkpoint, data_of(self.trainer), stage)
        prepare(checkpoint, self.trainer, groups)
        self.load_state_dict(checkpoint["state_dict"])
        self._record.check_code(checkpoint, stage)


def _key(split: Split) -> str:
    return f"on_{split}"  # a ModuleDict refuses "train", the name of a module's own method

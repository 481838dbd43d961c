"""PairModule, the one LightningModule: all rounds of one network, in stacks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Self, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pairs_lit.checkpoints.earlier_layout import separate_backbones
from pairs_lit.checkpoints.files import IMAGE_FORMAT, RECORD, prepare, read_checkpoint, sign
from pairs_lit.checkpoints.schema import Form
from pairs_lit.data.loaders import StackBatch
from pairs_lit.data.pair_store import SPLITS, Split
from pairs_lit.data.rounds import Rounds
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
from pairs_lit.runs.metrics import PER_EPOCH
from pairs_lit.runs.run_folder import CONFIG, enclosing_run
from pairs_lit.seeds import generator, seeded
from pairs_lit.stacking.looped import Apart, Loop, draws_in_evaluation
from pairs_lit.stacking.parameter_slices import View, views_of
from pairs_lit.stacking.program.summary import describe_parts, describe_slow_parts
from pairs_lit.system.console import notice
from pairs_lit.system.paths import user_path
from pairs_lit.system.tracebacks import reason_of
from pairs_lit.text import counted
from pairs_lit.training.code_check import CODE, CodeCheck, check_weights
from pairs_lit.training.losses import LossParts, PairLoss, side_by_side
from pairs_lit.training.metrics import RoundMeans, measure
from pairs_lit.training.optimizers import hyperparameters, replayed, schedule_seed
from pairs_lit.training.recipes import Decay, Recipe, Schedules, Variant, made, schedule_of
from pairs_lit.training.schedules import Stepwise


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
        self.recipes = list(dict.fromkeys(variant.recipe for variant in variants))
        self._recipe_of = [self.recipes.index(variant.recipe) for variant in each]
        self._means = nn.ModuleDict({_key(split): RoundMeans(PER_EPOCH, len(seeds)) for split in SPLITS})
        self.measured = self._check_parts()
        self.code = CodeCheck(
            variants, self.rounds, self.pair_stacks, self._losses, repeats=self._repeats, draws=self._draws
        )
        self._form = Form(self.state_dict())
        self._parameters_of = [list(stack.parameters()) for stack in self.stacks]
        self._views: list[list[View]] = [[] for _ in self.stacks]
        self._stepwise: Stepwise | Schedules | None = None
        self._stack = 0
        self._with_gradients: list[nn.Parameter] = []

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - torch's signature
        """Set an attribute; in every step Lightning sets this one some forty times, and torch's way is slow."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _check_parts(self) -> tuple[str, ...]:
        """Refuse parts that do not fit together; return which metrics this network has."""
        trial = self._trial()
        with torch.enable_grad():
            trial.network.eval()
            first, second = (trial(_trial_images(3, self._architecture)) for _ in range(2))
        self._draws = draws_in_evaluation(trial.network)
        self._repeats = torch.equal(first.output.nan_to_num(), second.output.nan_to_num())
        if self._draws:
            notice(
                "the network draws random numbers in evaluation, too (dropout without training=self.training?): its "
                "figures are those of one draw, which follows from each round's seed."
            )
        elif not self._repeats:
            notice(
                "the network gives another answer when it is evaluated again (a random generator or a count of its "
                "own?): test, and going on from a checkpoint, will not repeat this fit's figures."
            )
        if not first.has_shape_of(1, 3):
            raise PairsLitError(
                f"a head must give 1 or 2 logits a pair; this one gave {tuple(first.output.shape[1:])} for 3 pairs of "
                "images."
            )
        self._loss.check(first)
        self.follows_from_digits = first.digit_probabilities is not None
        absent = {
            "target_loss": self._loss.target == "none",
            "digit_loss": self._loss.digits == "none",
            "digit_accuracy": first.digit_logits is None,
        }
        return tuple(name for name in PER_EPOCH if not absent.get(name, False))

    def _trial(self) -> PairStack:
        """Build one network of the first round once more: what is tried leaves no trace in the one that is trained."""
        return PairStack.build(replace(self._architecture, members=1), self.rounds.seeds[:1])

    def objection(self, pairs: int, *, training: bool) -> str | None:
        """Say why the network cannot be trained or evaluated on a batch of so many pairs; None: it can."""
        digits = torch.zeros(1, pairs, 2, dtype=torch.int64)
        try:
            with torch.inference_mode(not training):
                trial = self._trial()
                trial.network.train(training)
                comparison = trial(_trial_images(pairs, self._architecture))
                if not comparison.has_shape_of(1, pairs):
                    return f"it gives an output of shape {tuple(comparison.output.shape[1:])}"
                total = self._loss(comparison, digits, digits[..., 0]).total.sum()
                if training:
                    torch.autograd.backward(total)
        except Exception as error:  # whatever a module of the user's raises
            return reason_of(error)
        return None

    def described(self) -> str:
        """Return how the stacks work, in words."""
        sizes = [rounds.stop - rounds.start for rounds in self.rounds.stacks]
        shown = ", ".join(map(str, sizes[:5])) + (", …" if len(sizes) > len(sizes[:5]) else "")
        first = self.pair_stacks[0]
        members = f" of {first.members} members" if first.members > 1 else ""
        rounds, stacks = counted(len(self.rounds.seeds), "round"), counted(len(sizes), "stack")
        return f"{rounds}{members} in {stacks} of {shown}\n\n{describe_parts(first.network)}"

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
        none = torch.zeros(*each.shape[:3], dtype=torch.int64, device=images.device)
        batches = [
            StackBatch(stack, "test", 0, each[own], none[own], none[own][..., 0])
            for stack, own in enumerate(self.rounds.stacks)
        ]
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
        for parameter in self._with_gradients:  # of the stack before
            parameter.grad = None
        self._stack, self._with_gradients = batch.stack, self._parameters_of[batch.stack]
        if self._stepwise is not None:
            self._stepwise.at(batch.step)
        return losses.total.sum()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing: :meth:`training_step` forgets the gradients of one stack, where this would look at all."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Hand the gradients to the views that rounds of different recipes have of one parameter."""
        for view in self._views[self._stack]:
            view.take_gradient()

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
        self.optimized = self._spread()
        optimizer = made(self.recipes, _values(self.optimized))
        self._settings = [hyperparameters(group) for group in optimizer.param_groups]
        scheduler = schedule_of(optimizer, self.recipes)
        self._stepwise = scheduler if isinstance(scheduler, Stepwise | Schedules) else None
        if scheduler is None:
            return optimizer
        config: Any = {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}
        return cast(OptimizerLRSchedulerConfig, config)  # Lightning takes whatever steps

    def _spread(self) -> list[list[View]]:
        """Return what each group of the optimizer trains, recipe after recipe: parameters, or the rows of rounds."""
        groups: list[list[View]] = [[] for recipe in self.recipes for _ in recipe.makers]
        self._views = [[] for _ in self.stacks]
        for stack, rounds in enumerate(self.rounds.stacks):
            part, recipes = self.stacks[stack], self._recipe_of[rounds]
            for name, value in part.named_parameters():
                found = views_of(part, name, value, recipes)
                for recipe, view in found:
                    group = self.groups_of(recipe)[self.recipes[recipe].group_of(part, name)]
                    groups[group].append(replace(view, name=f"stacks.{stack}.{name}"))
                self._views[stack] += [view for _, view in found if view.value is not value]
            self._parameters_of[stack] = [*part.parameters(), *(view.value for view in self._views[stack])]
        return groups

    def groups_of(self, recipe: int) -> range:
        """Return the numbers of the optimizer's groups that belong to a recipe."""
        first = sum(len(each.makers) for each in self.recipes[:recipe])
        return range(first, first + len(self.recipes[recipe].makers))

    def _begin(self, epoch: int) -> None:
        """Let the schedules that go on with each step begin an epoch."""
        trainer = cast(Any, self.trainer)
        if self._stepwise is not None and epoch < trainer.max_epochs:
            self._stepwise.begin(epoch, trainer.max_epochs, trainer.datamodule.steps)

    def on_train_start(self) -> None:
        """Set the optimizer and the schedule as the config says for this epoch, whatever a checkpoint says."""
        trainer = cast(Any, self.trainer)
        for way in describe_slow_parts(self.stacks[0]) if trainer.is_global_zero else []:
            notice(f"{way}.")
        (optimizer,) = trainer.optimizers
        for group, settings in zip(optimizer.param_groups, self._settings, strict=True):
            group.pop("initial_lr", None)
            group.update(settings)
        scheduler = schedule_of(optimizer, self.recipes)
        if scheduler is not None:
            (config,) = trainer.lr_scheduler_configs
            config.scheduler.load_state_dict(replayed(scheduler, self.current_epoch))
        self._begin(self.current_epoch)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # noqa: ANN401 - Lightning's signature
        """Step the schedule; one that draws random numbers is the same each time."""
        with seeded(schedule_seed(self.current_epoch + 1)):
            scheduler.step()
        self._begin(self.current_epoch + 1)

    def _own_record(self) -> dict[str, Any]:
        """Return what the weights alone belong to."""
        network = self.pair_stacks[0].description
        members = self._architecture.members
        rounds = self.rounds
        return {"seeds": rounds.seeds, "members": members, "stack_size": rounds.stack_size, "network": network}

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint must share with the config that loads it."""
        own = self._own_record()
        network = own.pop("network")
        data = cast(Any, self.trainer).datamodule
        record: dict[str, Any] = own | data.reading | asdict(data.settings) | {"network": network}
        return record

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights belong to and compute, and what the training images look like."""
        record, trainer = self.record(), cast(Any, self.trainer)
        image_format = trainer.datamodule.bank.image_format.to_text()
        sign(checkpoint, self._form, record | {IMAGE_FORMAT: image_format}, self.trainer)
        own = self.code.observe(self.rounds.of_worker(trainer.global_rank, trainer.world_size), record["normalise"])
        every = trainer.strategy.gathered(own) if trainer.world_size > 1 else [own]
        checkpoint[CODE] = self.code.record({number: each for part in every for number, each in part.items()})

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
        self._check_weights(checkpoint, self._own_record(), None)
        self._load_checked(checkpoint, None)

    def _modernise(self, checkpoint: dict[str, Any], groups: Sequence[Sequence[str]]) -> None:
        """Give a checkpoint of an earlier release today's layout."""
        branches = [stack.network.branch for stack in self.pair_stacks]
        looped = [number for number, branch in enumerate(branches) if isinstance(branch, Loop | Apart)]
        separate_backbones(checkpoint, self.state_dict().keys(), groups, looped)

    def _check_weights(self, checkpoint: Mapping[str, Any], wanted: dict[str, Any], stage: str | None) -> None:
        """Raise PairsLitError if a checkpoint's weights are not those of this module."""
        self.code.has_changed = False
        check_weights(checkpoint, self._form, wanted, self.code, stage)

    def _load_checked(self, checkpoint: Mapping[str, Any], stage: str | None) -> None:
        """Load the weights of a checkpoint, and check that the networks compute with them what they did in the fit."""
        self.load_state_dict(checkpoint["state_dict"])
        if CODE in checkpoint:  # earlier releases recorded nothing of it
            self.code.check(checkpoint[CODE], checkpoint[RECORD].get("normalise"), checkpoint["epoch"], stage=stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise PairsLitError if a checkpoint is damaged or another configuration's, before anything of it is used."""
        stage = cast(Any, self.trainer.state.fn).value
        self._modernise(checkpoint, [[view.name for view in group] for group in self._spread()])
        self._check_weights(checkpoint, self.record(), stage)
        makers = [make for recipe in self.recipes for make in recipe.makers]
        prepare(checkpoint, self.trainer, list(zip(makers, _values(self._spread()), strict=True)))
        self._load_checked(checkpoint, stage)


def _values(groups: Sequence[Sequence[View]]) -> list[list[nn.Parameter]]:
    """Return the parameters of each group."""
    return [[view.value for view in group] for group in groups]


def _trial_images(pairs: int, architecture: Architecture) -> Tensor:
    """Return images (1, pairs, 2, H, W) to try a network on."""
    return torch.rand(1, pairs, 2, *architecture.image_shape[1:], generator=generator(0, "trial"))


def _key(split: Split) -> str:
    return f"on_{split}"  # a ModuleDict refuses "train", the name of a module's own method

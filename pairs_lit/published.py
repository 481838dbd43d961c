"""What the five reports publish, row by row; `configs/reports/<report>/<row>.yaml` holds each row's recipe.

Accuracies are fractions of pairs. Where a report gives error rates, they stand here as 1 − error.
"""

from dataclasses import dataclass
from typing import Literal

from pairs_lit.significance import Sample

Column = Literal["test_accuracy", "best_test_accuracy"]


@dataclass(frozen=True)
class Spread:
    """Mean, max, median and std over rounds, as hakobyan gives them."""

    mean: float
    max: float
    median: float
    std: float


@dataclass(frozen=True)
class Row:
    """One row of a report's table.

    Attributes:
        name: The config's name.
        title: What the report calls it.
        mean: Published mean test accuracy.
        std: Published std over rounds.
        parameters: Of one round's network; where the report gives none, of the widths chosen here.
        train: Published training accuracy, where there is one.
        test: Published test accuracy in more detail, where there is some.
        minutes: Published total time of all rounds, where there is one.
    """

    name: str
    title: str
    mean: float
    std: float
    parameters: int
    train: Spread | None = None
    test: Spread | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Sweep:
    """One option of a row at several values, judged on validation pairs.

    Attributes:
        row: The config that is varied.
        option: The option on the command line.
        title: What the curve's axis says.
        values: Its values.
    """

    row: str
    option: str
    title: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One plot over epochs.

    Attributes:
        metric: As in ``curves.csv``.
        label: Of the axis, with the unit.
        rows: Names of the rows it shows.
    """

    metric: str
    label: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        name: Its author.
        rounds: How many rounds its figures are the mean of.
        rows: Its table.
        figures: By file name, its plots side by side.
        column: What of a round the published figure is the mean of.
        sweeps: Options that it says it searched.
        alone: How many rounds are also trained one at a time, for their time.
    """

    name: str
    rounds: int
    rows: tuple[Row, ...]
    figures: dict[str, tuple[Panel, ...]]
    column: Column = "test_accuracy"
    sweeps: tuple[Sweep, ...] = ()
    alone: int = 0

    def sample(self, row: Row) -> Sample:
        """Return a row's published figure with its n."""
        return Sample(self.rounds, row.mean, row.std)


_ACCURACY = "test accuracy (fraction of pairs)"
_TRAIN_ACCURACY = "train accuracy (fraction of pairs)"
_ALPHAS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)

_BELHADJ = ("fc", "fc_aux", "cnn", "cnn_aux")
BELHADJ = Report(
    name="belhadj",
    rounds=10,
    column="best_test_accuracy",
    rows=(
        Row("fc", "FC", 0.7941, 0.0190, 2101),
        Row("fc_aux", "FC_aux", 0.8143, 0.0344, 2101),
        Row("cnn", "CNN", 0.8428, 0.0106, 1781),
        Row("cnn_aux", "CNN_aux", 0.8759, 0.0162, 1781),
    ),
    figures={
        "epochs": (
            Panel("test/accuracy", _ACCURACY, _BELHADJ),
            Panel("test/target_loss", "test loss without the auxiliary part (nats)", _BELHADJ),
        )
    },
    sweeps=(Sweep("cnn_aux", "model.loss.aux_weight", "weight α of the auxiliary loss", _ALPHAS),),
)

_HAKOBYAN = ("net1", "net2")
HAKOBYAN = Report(
    name="hakobyan",
    rounds=10,
    rows=(
        Row(
            "net1",
            "Net1",
            0.7175,
            0.0519,
            6592,
            train=Spread(0.8052, 0.9012, 0.8234, 0.0866),
            test=Spread(0.7175, 0.7642, 0.7343, 0.0519),
        ),
        Row(
            "net2",
            "Net2",
            0.7767,
            0.1359,
            10362,
            train=Spread(0.8163, 0.9034, 0.8481, 0.1373),
            test=Spread(0.7767, 0.8568, 0.8029, 0.1359),
        ),
    ),
    figures={
        "epochs": (
            Panel("train/accuracy", _TRAIN_ACCURACY, _HAKOBYAN),
            Panel("test/accuracy", _ACCURACY, _HAKOBYAN),
        )
    },
)

PILLONEL = Report(
    name="pillonel",
    rounds=100,
    rows=(
        Row("model1", "Model 1", 0.8375, 0.0095, 210177, minutes=27.06),
        Row("model2", "Model 2", 0.8515, 0.0241, 191361, minutes=29.33),
        Row("model3", "Model 3", 0.8935, 0.0430, 193931, minutes=30.75),
        Row("model4", "Model 4", 0.8894, 0.0091, 195019, minutes=56.76),
    ),
    figures={"epochs": (Panel("test/accuracy", _ACCURACY, ("model1", "model2", "model3", "model4")),)},
    alone=3,
)

_GRALL = {
    "weight_sharing": ("b_target_mse", "b_separate_target_mse"),
    "auxiliary_loss": ("a_target_ce", "a_target_classes_ce"),
    "cross_entropy": ("a_target_classes_ce", "b_target_ce", "b_classes_ce"),
    "squared_error": ("a_target_classes_mse", "b_target_mse", "b_classes_mse"),
}
GRALL = Report(
    name="grall",
    rounds=10,
    rows=(
        Row("b_target_mse", "B, shared, target, MSE", 0.836, 0.046, 240010),
        Row("b_separate_target_mse", "B, not shared, target, MSE", 0.751, 0.045, 480020),
        Row("a_target_ce", "A, shared, target, CE", 0.825, 0.017, 240472),
        Row("a_target_classes_ce", "A, shared, target + classes, CE", 0.934, 0.011, 240472),
        Row("a_target_classes_mse", "A, shared, target + classes, MSE", 0.86, 0.011, 240472),
        Row("b_target_mse_again", "B, shared, target, MSE (again)", 0.835, 0.029, 240010),
        Row("b_target_ce", "B, shared, target, CE", 0.835, 0.033, 240010),
        Row("b_classes_mse", "B, shared, classes, MSE", 0.858, 0.022, 240010),
        Row("b_classes_ce", "B, shared, classes, CE", 0.944, 0.010, 240010),
    ),
    figures={
        name: (
            Panel("train/target_loss", "train loss on the target", rows),
            Panel("train/digit_loss", "train loss on the classes (unweighted)", rows),
            Panel("train/accuracy", _TRAIN_ACCURACY, rows),
        )
        for name, rows in _GRALL.items()
    },
)

_SIAMESE = ("no_ws", "ws", "ws_aux", "ws_aux_bn", "ws_aux_bn_drop")
GARDONI = Report(
    name="gardoni",
    rounds=10,
    rows=(
        Row("transfer_learn", "TransferLearn", 0.9686, 0.0067, 72418),
        Row("no_ws", "Siamese NoWS", 0.8074, 0.0089, 145737),
        Row("ws", "Siamese WS", 0.7790, 0.0152, 73299),
        Row("ws_aux", "Siamese WS,AUX", 0.8373, 0.0220, 73299),
        Row("ws_aux_bn", "Siamese WS,AUX,BN", 0.8476, 0.0142, 73299),
        Row("ws_aux_bn_drop", "Siamese WS,AUX,BN,DROP", 0.8474, 0.0115, 73299),
    ),
    figures={
        "epochs": (
            Panel("train/target_loss", "train loss of the comparison (nats)", _SIAMESE),
            Panel("test/accuracy", _ACCURACY, _SIAMESE),
        )
    },
    sweeps=(Sweep("ws_aux", "model.loss.aux_weight", "weight α of the auxiliary loss", _ALPHAS),),
)

REPORTS = {report.name: report for report in (BELHADJ, HAKOBYAN, PILLONEL, GRALL, GARDONI)}

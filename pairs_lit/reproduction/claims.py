"""What the reports claim, and which of our rounds answer it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Side:
    """One figure of every round of a row.

    Attributes:
        report: The report's name.
        row: The row's name.
        metric: A column of ``rounds.csv``, or with an epoch a metric of ``curves.csv``.
        epoch: After which epoch; None: of the finished run.
        variant: The variant's name, where the row has another recipe.
    """

    report: str
    row: str
    metric: str = "test_accuracy"
    epoch: int | None = None
    variant: str = ""

    @property
    def fit(self) -> tuple[str, str, str]:
        """Which fit it is of: report, row, variant."""
        return self.report, self.row, self.variant


@dataclass(frozen=True)
class Contrast:
    """First against second.

    Attributes:
        title: What is compared, in words.
        first: One side.
        second: The other.
        kind: ``mean``: difference of the means; ``spread``: ratio of the standard deviations; ``time``: ratio of the
            seconds a round.
    """

    title: str
    first: Side
    second: Side
    kind: Literal["mean", "spread", "time"] = "mean"


@dataclass(frozen=True)
class Claim:
    """A question, what the reports say, and our contrasts.

    Attributes:
        question: In plain words.
        said: The reports' answer.
        contrasts: Ours.
        remark: Why ours may differ, or what to bear in mind; without figures, which only the runs may give.
    """

    question: str
    said: str
    contrasts: tuple[Contrast, ...]
    remark: str = ""


def _pillonel(row: str, metric: str = "test_accuracy", epoch: int | None = None) -> Side:
    return Side("pillonel", row, metric, epoch)


def _grall(row: str, metric: str = "test_accuracy") -> Side:
    return Side("grall", row, metric)


def _gardoni(row: str, variant: str = "") -> Side:
    return Side("gardoni", row, variant=variant)


def _belhadj(row: str, metric: str = "test_accuracy", epoch: int | None = None) -> Side:
    return Side("belhadj", row, metric, epoch)


def _further(row: str) -> Side:
    return Side("further", row)


_ROW_4 = _grall("a_target_classes_ce")
_ROWS = {"fc": "FC", "fc_aux": "FC_aux", "cnn": "CNN", "cnn_aux": "CNN_aux"}

CLAIMS = (
    Claim(
        "Does weight sharing help?",
        "pillonel and grall: yes. gardoni: no, it hurts.",
        (
            Contrast("pillonel: Model 2 (shared) − Model 1", _pillonel("model2"), _pillonel("model1")),
            Contrast("grall: B on targets, shared − not", _grall("b_target_mse"), _grall("b_separate_target_mse")),
            Contrast("gardoni: WS − NoWS", _gardoni("ws"), _gardoni("no_ws")),
            Contrast(
                "gardoni, softmax between branch and head: WS − NoWS",
                _gardoni("ws", "softmax"),
                _gardoni("no_ws", "softmax"),
            ),
            Contrast(
                "gardoni, softmax between branch and head: WS, last epoch − epoch 10",
                _gardoni("ws", "softmax"),
                Side("gardoni", "ws", "test/accuracy", 10, "softmax"),
            ),
        ),
        "gardoni gives the comparison the digits' probabilities. Read literally that is a softmax between branch and "
        "head; with it both rows, and the harm, come out as the report has them.",
    ),
    Claim(
        "Does the auxiliary loss help?",
        "All: yes.",
        (
            Contrast("belhadj: FC_aux − FC", _belhadj("fc_aux"), _belhadj("fc")),
            Contrast("belhadj: CNN_aux − CNN", _belhadj("cnn_aux"), _belhadj("cnn")),
            Contrast("hakobyan: Net2 − Net1 (other network too)", Side("hakobyan", "net2"), Side("hakobyan", "net1")),
            Contrast("pillonel: Model 3 − Model 2", _pillonel("model3"), _pillonel("model2")),
            Contrast("grall: A, target + classes − target", _grall("a_target_classes_ce"), _grall("a_target_ce")),
            Contrast("gardoni: WS,AUX − WS", _gardoni("ws_aux"), _gardoni("ws")),
        ),
        "Which weight is best on validation pairs stands in the pages of belhadj, gardoni and further.",
    ),
    Claim(
        "Does the auxiliary loss hurt early?",
        "belhadj: in the short run it performs slightly worse for both networks.",
        tuple(
            Contrast(
                f"belhadj: {title}, epoch {epoch}",
                _belhadj(f"{row}_aux", "test/accuracy", epoch),
                _belhadj(row, "test/accuracy", epoch),
            )
            for row, title in (("fc", "FC_aux − FC"), ("cnn", "CNN_aux − CNN"))
            for epoch in (1, 3, 10, 30)
        ),
    ),
    Claim(
        "Does batch norm help, and does it reduce the spread?",
        "pillonel: the same accuracy with a quarter of the spread. gardoni: a little better and less scattered.",
        (
            Contrast("pillonel: Model 4 − Model 3", _pillonel("model4"), _pillonel("model3")),
            Contrast("pillonel: std of Model 4 / std of Model 3", _pillonel("model4"), _pillonel("model3"), "spread"),
            Contrast("gardoni: WS,AUX,BN − WS,AUX", _gardoni("ws_aux_bn"), _gardoni("ws_aux")),
            Contrast("gardoni: std with BN / without", _gardoni("ws_aux_bn"), _gardoni("ws_aux"), "spread"),
        ),
    ),
    Claim(
        "Does batch norm double the time, and saturate after about 30 epochs?",
        "pillonel: 211 % of Model 1's time, 184 % of Model 3's; no gain after about 30 epochs.",
        (
            Contrast("pillonel: time of Model 4 / Model 3", _pillonel("model4"), _pillonel("model3"), "time"),
            Contrast("pillonel: time of Model 3 / Model 1", _pillonel("model3"), _pillonel("model1"), "time"),
            Contrast(
                "pillonel: Model 4, epoch 60 − epoch 30",
                _pillonel("model4", "test/accuracy", 60),
                _pillonel("model4", "test/accuracy", 30),
            ),
            Contrast(
                "pillonel: Model 3, epoch 60 − epoch 30",
                _pillonel("model3", "test/accuracy", 60),
                _pillonel("model3", "test/accuracy", 30),
            ),
        ),
        "The times are of rounds in the stack; those of rounds trained one at a time stand in pillonel's page.",
    ),
    Claim(
        "Does dropout add anything to batch norm?",
        "gardoni: no.",
        (
            Contrast("gardoni: WS,AUX,BN,DROP − WS,AUX,BN", _gardoni("ws_aux_bn_drop"), _gardoni("ws_aux_bn")),
            Contrast(
                "gardoni, softmax between branch and head: WS,AUX,BN,DROP − WS,AUX,BN",
                _gardoni("ws_aux_bn_drop", "softmax"),
                _gardoni("ws_aux_bn", "softmax"),
            ),
        ),
        "Rate and place of the dropout are unstated; ours is in the branch's hidden layer. With a softmax between "
        "branch and head its gain is gone, as in the report.",
    ),
    Claim(
        "Cross-entropy or squared error?",
        "grall: cross-entropy, but for B on targets alone, where both are equal. gardoni: cross-entropy on digits.",
        (
            Contrast("grall: A, target + classes", _grall("a_target_classes_ce"), _grall("a_target_classes_mse")),
            Contrast("grall: B, target alone", _grall("b_target_ce"), _grall("b_target_mse")),
            Contrast("grall: B, classes alone", _grall("b_classes_ce"), _grall("b_classes_mse")),
            Contrast("gardoni: WS,AUX, the digits' loss", _gardoni("ws_aux"), _further("digits_mse")),
        ),
    ),
    Claim(
        "A learned or an engineered comparison?",
        "grall: equal where the classes are trained. gardoni: comparing recognised digits by logic is far better.",
        (
            Contrast("grall: A − B, with classes (CE)", _grall("a_target_classes_ce"), _grall("b_classes_ce")),
            Contrast("grall: A − B, target alone (CE)", _grall("a_target_ce"), _grall("b_target_ce")),
            Contrast("gardoni: WS,AUX,BN − TransferLearn", _gardoni("ws_aux_bn"), _gardoni("transfer_learn")),
        ),
    ),
    Claim(
        "Does B, trained on targets by squared error, overfit?",
        "grall: yes, below 5 % error on train, 16.5 % on test.",
        (
            Contrast(
                "grall: train − test accuracy, B on targets (MSE)",
                _grall("b_target_mse", "train_accuracy"),
                _grall("b_target_mse"),
            ),
            Contrast(
                "grall: train − test accuracy, B on classes (CE)",
                _grall("b_classes_ce", "train_accuracy"),
                _grall("b_classes_ce"),
            ),
        ),
    ),
    Claim(
        "Does flipping the target of swapped equal digits cost accuracy?",
        "gardoni flips it, which is wrong for a tenth of the swapped pairs.",
        (
            Contrast("gardoni: WS,AUX, re-labelled − flipped", _further("relabel"), _gardoni("ws_aux")),
            Contrast("gardoni: WS,AUX, re-labelled − no swapped pairs", _further("relabel"), _further("no_swap")),
        ),
        "The settings of the data differ, so these are compared unpaired, though the test pairs are the same.",
    ),
    Claim(
        'How much does "best test epoch" flatter a table?',
        "belhadj's table is of best test epochs, which the report does not say.",
        tuple(
            Contrast(f"belhadj: {title}, best test epoch − last", _belhadj(row, "best_test_accuracy"), _belhadj(row))
            for row, title in _ROWS.items()
        ),
    ),
    Claim(
        "How far do two tables of ten rounds with the same settings differ?",
        "grall publishes the same settings twice: 16.4 ± 4.6 % and 16.5 ± 2.9 % error.",
        (Contrast("grall: row 1 − row 6", _grall("b_target_mse"), _grall("b_target_mse_again")),),
    ),
    Claim(
        "What do the reports' own ideas for later bring?",
        "belhadj: convolutions only, with global average pooling. grall: a weighted sum of the losses, more layers in "
        "the head, fewer code dimensions.",
        (
            Contrast("belhadj: convolutions only − CNN_aux", _further("all_convolutional"), _belhadj("cnn_aux")),
            Contrast(
                "grall: half the weight on classes − row 4", _further("weighted_sum"), _grall("a_target_classes_ce")
            ),
            Contrast(
                "grall: one more layer in the head − row 4", _further("deeper_head"), _grall("a_target_classes_ce")
            ),
            Contrast("grall: linear read-out − row 4", _further("code"), _ROW_4),
        ),
        "The accuracy against the code's dimensions and against the weight stands in the page of further.",
    ),
)

"""Small runs of every kind of network on the bundled digits."""

from collections.abc import Mapping
from pathlib import Path

import pairs_lit

SMALL = {
    "data.source": "digits",
    "data.train_pairs": 60,
    "data.val_pairs": 20,
    "data.test_pairs": 30,
    "rounds.count": 3,
    "rounds.seed": 4,
    "rounds.stack_size": 2,
    "trainer.max_epochs": 2,
    "trainer.devices": 1,
    "trainer.enable_progress_bar": False,
}


def fit_small(options: Mapping[str, object], root: Path, **changes: object) -> pairs_lit.Run:
    """Fit fc_aux with some options; keyword arguments are options too, with two underscores for each dot."""
    changed_options = {name.replace("__", "."): value for name, value in changes.items()}
    return pairs_lit.fit("fc_aux", {**options, "trainer.default_root_dir": root, **changed_options})


CASES: dict[str, tuple[str, dict[str, object]]] = {
    "parts": ("cnn_aux", {}),
    "separate": ("cnn", {"model.sharing": "separate", "data.normalise": "standard"}),
    "joint": (
        "fc",
        {"model.sharing": "joint", "model.readout": "none", "model.loss.digits": "none", "data.normalise": "unit"},
    ),
    "linear read-out": ("reports/pillonel/model4", {}),
    "digit head": ("reports/grall/b_classes_ce", {}),
    "two logits, batch norm": ("reports/gardoni/ws_aux_bn", {}),
    "whole network": ("fc_aux", {"model.network": "tests.support.pair_networks.Siamese"}),
    "loop": ("fc", {"model.backbone": "tests.support.real_world_parts.Altered"}),
    "members": ("cnn_aux", {"model.members": 2}),
    "members, separate": ("fc_aux", {"model.members": 3, "model.sharing": "separate", "data.normalise": "standard"}),
    "members with a digit head": ("reports/grall/b_classes_ce", {"model.members": 2}),
    "members of two logits": ("reports/gardoni/ws_aux_bn", {"model.members": 2}),
    "members, whole networks": ("fc_aux", {"model.members": 2, "model.network": "tests.support.pair_networks.Siamese"}),
    "views": ("cnn_aux", {"model.views": "standard"}),
    "views and members": (
        "reports/grall/b_classes_ce",
        {"model.views": "[{}, {rotation: 6}]", "model.members": 2, "data.normalise": "standard"},
    ),
    "members in a loop": ("fc", {"model.members": 2, "model.backbone": "tests.support.real_world_parts.Altered"}),
}


RESNET = {"model.backbone": "torchvision.models.resnet18", "model.backbone.num_classes": 10, "model.backbone.size": 32}
MORE: dict[str, tuple[str, dict[str, object]]] = {
    "resnet18": ("fc_aux", {**RESNET, "trainer.max_epochs": 1}),
    "a user class": ("fc_aux", {"model.backbone": "tests.support.user_parts.TwoPaths"}),
    "branching": ("fc_aux", {"model.backbone": "tests.support.user_parts.Branching"}),
    "random": ("fc_aux", {"model.backbone": "tests.support.real_world_parts.MonteCarlo"}),
}
ALL = {**CASES, **MORE}


def fit_case(case: str, root: Path) -> pairs_lit.Run:
    config, changes = ALL[case]
    return pairs_lit.fit(config, {**SMALL, "trainer.default_root_dir": root, **changes})


class RunCache:
    """Cache of runs, each of which is trained when it is first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs: dict[str, pairs_lit.Run] = {}

    def __call__(self, case: str) -> pairs_lit.Run:
        if case not in self._runs:
            self._runs[case] = fit_case(case, self._root)
        return self._runs[case]

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision
import yaml
from torch import nn

from pairs_lit.checkpoints.files import read_checkpoint
from pairs_lit.cli import main
from pairs_lit.errors import PairsLitError
from pairs_lit.nn.backbones import FC
from pairs_lit.nn.built import Built, has_shape_parameter
from pairs_lit.nn.heads import MLP
from pairs_lit.stacking.looped import LoopedCopies
from pairs_lit.training.module import PairModule
from tests.conftest import CONFIGS, Fit
from tests.support import real_world_parts
from tests.support.runs import build_checkpoint_arguments, read_tables, run_rejected

PARTS = "tests.support.real_world_parts"


class TestBuilders:
    def test_an_argument_that_is_a_class(self) -> None:
        arguments = {"num_classes": 10, "norm_layer": "torch.nn.InstanceNorm2d"}
        built = Built((1, 28, 28), builder="torchvision.models.resnet18", arguments=arguments)
        assert any(isinstance(layer, nn.InstanceNorm2d) for layer in built.modules())
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in built.modules())

    def test_a_text_that_looks_like_a_class_stays_a_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def named(shape: tuple[int, int, int], name: str, file: object = None) -> nn.Module:
            assert (name, file) == ("torch.nn.ReLU", "torch.nn.ReLU")
            return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], 10))

        monkeypatch.setattr(real_world_parts, "named", named, raising=False)
        arguments = {"name": "torch.nn.ReLU", "file": "torch.nn.ReLU"}
        Built((1, 14, 14), builder=f"{PARTS}.named", arguments=arguments)

    @pytest.mark.slow
    def test_a_function_of_torchvision_with_arguments(self, fit: Fit) -> None:
        options = ["--model.backbone", "torchvision.models.resnet18", "--model.backbone.num_classes", "10"]
        run = fit(*options, "--rounds.count", "2", "--trainer.max_epochs", "1", config="fc_aux")
        plain_size = sum(value.numel() for value in torchvision.models.resnet18(num_classes=10).parameters())
        head = 21
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == plain_size + head
        assert main(["test", *build_checkpoint_arguments(run)]) == 0

    @pytest.mark.parametrize(
        "backbone",
        [
            f"{PARTS}.NoShape",
            {"class_path": f"{PARTS}.NoShape", "init_args": {"hidden": 3}},
            {"class_path": f"{PARTS}.sequential", "init_args": {"width": 3}},
            {"class_path": f"{PARTS}.InChannels", "init_args": {"in_features": 196}},
            f"{PARTS}.sequential",
        ],
        ids=str,
    )
    @pytest.mark.quick(2)
    def test_factory_in_a_config_file(self, backbone: object, fit: Fit, tmp_path: Path) -> None:
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        content["model"]["backbone"] = backbone
        config = tmp_path / "mine.yaml"
        config.write_text(yaml.safe_dump(content))
        run = fit(config=config)
        assert read_tables(fit(config=run / "config.yaml")) == read_tables(run)

    def test_command_line_overrides_arguments_of_the_file(self, fit: Fit, tmp_path: Path) -> None:
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        content["model"]["backbone"] = {"class_path": f"{PARTS}.sequential", "init_args": {"width": 3}}
        config = tmp_path / "mine.yaml"
        config.write_text(yaml.safe_dump(content))
        run = fit("--model.backbone.width", "5", config=config)
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 5 + 6 * 10 + 21

    @pytest.mark.parametrize(
        ("options", "note"),
        [
            ("--model.backbone.channels 5", "5 'a' 7 None"),
            ("--model.backbone.name 007 --model.backbone.flag null", "3 '007' None None"),
            ("--model.backbone.choice [1,x] --model.backbone.flag 1e-3", "3 'a' 0.001 [1, 'x']"),
            ("--model.backbone.init_args.flag true", "3 'a' True None"),
        ],
    )
    @pytest.mark.parametrize("form", ["option", "text", "file", "class_path", "input"])
    @pytest.mark.quick(1)
    def test_arguments_keep_their_types(
        self,
        form: str,
        options: str,
        note: str,
        tiny_options: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = f"{PARTS}.options_of_its_own"
        arguments = {
            "option": ["--config", str(CONFIGS / "fc_aux.yaml"), "--model.backbone", path],
            "text": ["--config", str(CONFIGS / "fc_aux.yaml"), f'--model.backbone={{"class_path": "{path}"}}'],
            "class_path": ["--config", str(CONFIGS / "fc_aux.yaml"), f"--model.backbone.class_path={path}"],
        }
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        content["model"]["backbone"] = {"class_path": path, "init_args": {"choice": None}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(content)))
        arguments |= {"file": ["--config", str(tmp_path / "mine.yaml")], "input": ["--config", "-"]}
        root = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
        assert main(["fit", *arguments[form], *tiny_options, *root, *options.split()]) == 0
        (run,) = tmp_path.glob("lightning_logs/*/*")
        network = read_checkpoint(run / "checkpoints" / "last.ckpt")["pairs_lit"]["network"]
        assert f"(1): Noted({note})" in network
        assert main(["test", *build_checkpoint_arguments(run)]) == 0

    @pytest.mark.parametrize(
        "backbone",
        [f"{PARTS}.Makers.by_class", f"{PARTS}.Makers.static", f"{PARTS}.partial_of_sequential"],
    )
    @pytest.mark.quick(1)
    def test_methods_and_partials_are_factories(self, backbone: str, fit: Fit) -> None:
        run = fit("--model.backbone", backbone, config="fc_aux")
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 3 + 4 * 10 + 21

    @pytest.mark.parametrize("whole", [True, False], ids=["model", "backbone"])
    def test_factory_in_a_separate_section_file(self, whole: bool, fit: Fit, tmp_path: Path) -> None:
        content = yaml.safe_load((CONFIGS / "fc_aux.yaml").read_text())
        backbone = {"class_path": f"{PARTS}.sequential", "init_args": {"width": 3}}
        section = content["model"] | {"backbone": backbone} if whole else backbone
        (tmp_path / "section.yaml").write_text(yaml.safe_dump(section))
        content["model"] = "section.yaml" if whole else content["model"] | {"backbone": "section.yaml"}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        run = fit(config=tmp_path / "mine.yaml")
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 3 + 4 * 10 + 21

    @pytest.mark.parametrize("spec", [{"dict_kwargs": {"width": 3}}, {"init_args": {}, "dict_kwargs": {"width": 3}}])
    def test_dict_kwargs_of_a_factory(self, spec: dict[str, object], fit: Fit) -> None:
        backbone = json.dumps({"class_path": f"{PARTS}.sequential"} | spec)
        run = fit(f"--model.backbone={backbone}", config="fc_aux")
        assert json.loads((run / "summary.json").read_text())["parameters_per_round"] == 197 * 3 + 4 * 10 + 21

    def test_factory_of_known_layers_trains_as_one_stack(self) -> None:
        def factory(shape: tuple[int, int, int]) -> nn.Module:
            return Built(shape, builder=f"{PARTS}.sequential", arguments={"width": 4})

        module = PairModule(seeds=[0, 1], backbone=factory, head=MLP)
        assert not any(isinstance(part, LoopedCopies) for part in module.modules())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                "torchvision.models.resnet18 --model.backbone.classes 10",
                "cannot be built .*unexpected keyword.*'classes'",
            ),
            (f"{PARTS}.NoShape --model.backbone.nokey 3", "cannot be built .*unexpected keyword argument 'nokey'"),
            (f"{PARTS}.InChannels", "cannot be built for an input of .*takes no image shape, set its arguments"),
            (f"{PARTS}.cosine", "cannot be built"),
            ("torchvision.models.resnet18", "embeddings of width 10, but the backbone's have width 1000"),
            ("torchvision.models.squeezenet1_0", "cannot be built|Output size is too small"),
            ("torchvision.models.resnet18 --model.backbone.size 0", "size must be 1 or more, got 0"),
            (f'{{"class_path":"{PARTS}.sequential","widht":3}}', "model.backbone: "),
        ],
    )
    def test_factory_with_invalid_arguments(
        self, options: str, message: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = [
            "fit",
            "--config",
            str(CONFIGS / "fc_aux.yaml"),
            *tiny_options,
            "--model.backbone",
            *options.split(),
        ]
        assert re.search(message, run_rejected(arguments, capsys))

    @pytest.mark.parametrize(
        ("builder", "named", "takes"),
        [
            (torchvision.models.resnet18, {}, False),
            (FC, {}, True),
            (nn.Linear, {"in_features": 3}, False),
            (lambda image_shape=(1, 2, 3): None, {}, True),
            (lambda hidden=3: None, {}, False),
            (lambda *layers: None, {}, False),
            (nn.Flatten, {}, False),
        ],
    )
    def test_detection_of_factories_that_take_the_shape(
        self, builder: Callable[..., object], named: dict[str, object], takes: bool
    ) -> None:
        assert has_shape_parameter(builder, named) == takes

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("nowhere.net", "backbone: cannot import nowhere.net: ModuleNotFoundError: No module named 'nowhere'"),
            ("math.pi", "model.backbone must be a function or class that builds a module, got math.pi"),
            ("os.getcwd", "os.getcwd must return a torch module, got str"),
        ],
    )
    def test_path_that_does_not_build_a_module(self, path: str, message: str) -> None:
        with pytest.raises(PairsLitError, match=message):
            Built((1, 14, 14), builder=path)

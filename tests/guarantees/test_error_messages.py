import re
from pathlib import Path

import pytest
import torch
import yaml

from pairs_lit.cli import main
from tests.conftest import CONFIGS, Fit
from tests.support.mnist_files import write_mnist
from tests.support.runs import run_rejected

BACKBONES = "pairs_lit.nn.backbones"
HEADS = "pairs_lit.nn.heads"
SCHEDULERS = "torch.optim.lr_scheduler"
CALLBACKS = "lightning.pytorch.callbacks"


MISTAKES = {
    "--nokey 3": "unrecognized arguments: --nokey 3",
    "--data.nokey 3": r"unrecognized arguments: --data.nokey 3 \(",
    "--max_epochs 3": r"unrecognized arguments: --max_epochs 3: did you mean --trainer.max_epochs\?",
    "--rounds.seeds 3": r"unrecognized arguments: --rounds.seeds 3: did you mean --rounds.seed\? \(",
    "--model.lr 3": r"could match .*: did you mean --model.optimizer.lr\?",
    "--model.backbone.chanels [3]": r"model.backbone: Option 'chanels' is not accepted: did you mean channels\?",
    "--model.loss {aux_weight:0.3}": "expected a section of settings .* got {aux_weight:0.3}. YAML needs a space",
    "--data.augment.elastic {4:0.8}": r"data.augment: expected settings such as {shift: 0.5} or null",
    "--model.backbone nowhere.Net": "model.backbone: No module named 'nowhere', got nowhere.Net",
    f"--model.backbone {BACKBONES}.Nope": "model.backbone: module 'pairs_lit.nn.backbones' has no attribute 'Nope'",
    "--model.backbone.nokey 3": "model.backbone: Option 'nokey' is not accepted",
    "--data.batch_size null": "data.batch_size: expected a whole number, got null",
    "--data.relation eq": "data.relation: expected one of 'le', 'lt', 'ge', 'gt', got eq",
    "--data.watch_test never": "data.watch_test: expected true or false or 'end', got never",
    "--data.augment.rotate -3": "data.augment.rotate must be from 0 to 180, got -3.0",
    "--data.augment.rotation 8": "data.augment: Option 'rotation' is not accepted",
    "--data.augment.elastic 4": "data.augment: elastic: expected a mapping such as {1: 0.5}, got 4",
    '--data.augment.elastic {"4":"a"}': "data.augment: elastic: expected a mapping such as {1: 0.5}",
    "--data.augment 5": "data.augment: expected settings such as {shift: 0.5} or null, got 5",
    "--data.source kmnist": "data.source must be 'auto', 'mnist', 'digits' or a dataset's class path, .*got 'kmnist'",
    "--data.all_pairs val": r"data.all_pairs: expected a list such as \[val, test\], got val",
    "--data 3": "data: expected a section of settings or a file, got 3",
    "--model.loss [1]": r"model.loss: expected a section of settings or a file, got \[1\]",
    "--model.views [1]": r"model.views: expected 'standard', a list such as \[{shift_x: 0.5}\] or null, got \[1\]",
    '--model.views [{"rotation":"a"}]': "model.views: rotation: expected a number",
    "--model.optimizer Adma": r"model.optimizer: expected the class path of a subclass of Optimizer, got Adma",
    "--model.optimizer.lr a": "model.optimizer: lr: expected a number",
    "--model.backbone.channels 3": r"model.backbone: channels: expected a list such as \[1, 2\], got 3",
    "--model.backbone.batch_norm yes": r"model.backbone: batch_norm: expected a list such as \[maps, hidden\], got yes",
    "--model.loss {target:foo}": "model.loss: expected a section of settings or a file",
    '--model.loss {"target":"foo"}': "model.loss.target: expected one of 'bce', 'ce', 'mse', 'none', got foo",
    "--model.backbone torch.optim.SGD": "model.backbone: expected the class path of a subclass of Module or null, got",
    "--model.optimizer torch.nn.Linear": "model.optimizer: expected the class path of a subclass of Optimizer, got",
    '--trainer.callbacks [{"class_path":"tests.support.no_licence.Callback"}]': "trainer.callbacks: no licence, got",
    "--rounds.stack_size a": "rounds.stack_size: expected a whole number or null, got a",
    "--trainer.callbacks 3": r"trainer.callbacks: expected a list such as \[module.Class\], the class",
    "--data.swap both": "data.swap: expected one of 'none', 'relabel', 'flip', got both",
    "--data.image_size 20": "data.image_size must be one of 1, 2, 4, 7, 14, 28 for images of 28×28, got 20",
    "--rounds.count 0": "rounds.count must be 1 or more, got 0",
    "--rounds.count -3": "rounds.count must be 1 or more, got -3",
    "--rounds.count ten": "rounds.count: expected a whole number, got ten",
    "--rounds.seed -1": "rounds.seed must be between 0 and 4294967293 for 3 rounds, got -1",
    "--rounds.stack_size 0": "rounds.stack_size must be 1 or more, got 0",
    "--data.train_pairs 0": "data.train_pairs must be 1 or more, got 0",
    "--data.val_pairs -1": "data.val_pairs must be 1 or more, got -1",
    "--data.test_pairs 0": "data.test_pairs must be 1 or more, got 0",
    "--data.batch_size 0": "data.batch_size must be 1 or more, got 0",
    "--data.batch_size -5": "data.batch_size must be 1 or more, got -5",
    "--data.eval_batch_size 0": "data.eval_batch_size must be 1 or more, got 0",
    "--trainer.max_epochs 0": "trainer.max_epochs must be 1 or more, got 0",
    "--trainer.max_epochs -1": "trainer.max_epochs must be 1 or more, got -1",
    "--trainer.max_epochs many": "trainer.max_epochs: expected a whole number or null, got many",
    "--data.train_pairs 201 --data.reuse false": "201 pairs were requested, but 360 images make only 180 pairs",
    "--data.val_pairs 200": "data.val_pairs must be 199 or less, got 200: .* share 400 training images",
    "--data.allow_unverified false": "is not MNIST's file.* Delete it",
    "--model.loss.aux_weight -1": "model.loss.aux_weight must be a finite number, 0 or more, got -1.0",
    "--model.loss.target ce": "model.loss.target is ce, which needs logits or probability from the head",
    "--model.loss.target none --model.loss.digits none": "nothing would be trained",
    "--model.readout none": "model.loss.digits is ce, but there are no digit logits",
    "--model.sharing joint": "model.readout must be none with sharing: joint, got identity",
    f"--model.head {HEADS}.ArgmaxHead": "this head has no gradient",
    "--model.head.outputs 3": "MLP.outputs must be 1 or 2, got 3",
    "--model.backbone.widths [10,7]": "model.readout: identity needs embeddings of width 10",
    "--model.backbone.widths [0,10]": "CNN.{1,2}widths must contain only values of 1 or more, got \\[0, 10\\]",
    "--model.backbone.channels [4,-1]": "CNN.{1,2}channels must contain only values of 1 or more, got \\[4, -1\\]",
    "--model.backbone.pools 0": "CNN.{1,2}pools must contain only values of 1 or more, got \\[0, 0\\]",
    "--model.backbone.conv_dropout -0.1": "CNN.{1,2}conv_dropout must .* 0 or more and below 1, got \\[-0.1, -0.1\\]",
    "--model.backbone.dropout .nan": "CNN.{1,2}dropout must .* 0 or more and below 1, got \\[nan\\]",
    f"--model.backbone {BACKBONES}.FC --model.backbone.widths [0,10]": "FC.{1,2}widths must .* got \\[0, 10\\]",
    f"--model.backbone {BACKBONES}.FC --model.backbone.dropout 1": "FC.{1,2}dropout must .* got \\[1.0\\]",
    "--model.head.hidden [0]": "MLP.{1,2}hidden must contain only values of 1 or more, got \\[0\\]",
    "--model.head.dropout -1": "MLP.{1,2}dropout must .* got \\[-1.0\\]",
    "--rounds.count 1000000000000": "rounds.count must be at most 10000, got 1000000000000",
    "--data.test_pairs 1000000000": "must have at most 100000000 pairs, got .*data.test_pairs 1000000000 for 3 rounds",
    f"--model.backbone {BACKBONES}.TorchModule --model.backbone.module torch.nn.Linear "
    "--model.backbone.module.in_features -1 --model.backbone.module.out_features 2": "model.backbone cannot be built",
    "--model.backbone.kernels 13": "CNN: kernels \\[13, 13\\] and pools \\[2, 2\\] are too large",
    "--model.backbone.kernels [3,3,3]": "CNN.kernels must be one value or a list of 2, .* got a list of 3",
    "--model.backbone tests.support.user_parts.Resting": "model.backbone: Resting leaves Dropout in evaluation mode",
    "--model.backbone tests.support.user_parts.KeepsImages": "a backbone must map .* gave \\(2, 1, 14, 14\\)",
    f"--model.backbone {BACKBONES}.TorchModule --model.backbone.module torch.nn.BatchNorm1d "
    "--model.backbone.module.num_features 3": "the backbone TorchModule cannot take an input of shape \\(1, 14, 14\\)",
    "--model.optimizer.lr -1": "model.optimizer: Invalid learning rate: -1.0",
    "--model.optimizer torch.optim.SGD --model.optimizer.lr 0.1 --model.optimizer.momentum -1": "model.optimizer: Inv",
    f"--model.lr_scheduler {SCHEDULERS}.LinearLR --model.lr_scheduler.start_factor 0": "model.lr_scheduler: Starting",
    "--model.lr_scheduler {}": "model.lr_scheduler must name a class, .*StepLR, or be null",
    "--name ../elsewhere": "--name must have 1 to 100 letters, .* got '../elsewhere'",
    "--seed_everything 3": "seed_everything must be left out, got 3. .* set rounds.seed",
    "--ckpt_path nowhere.ckpt": "--ckpt_path nowhere.ckpt: no such file",
    "--trainer.accelerator tpu": "trainer: .*torch_xla",
    "--trainer.accelerator abacus": "trainer: .*abacus",
    "--trainer.precision 3": "trainer.precision: ",
    "--trainer.logger true": "trainer.logger must be the class of a logger, got true. Leave it out",
    "--trainer.enable_checkpointing false": "trainer.enable_checkpointing must be True, got False: a run is resumed",
}


MIXING = {
    "--trainer.gradient_clip_val 1.0": "trainer.gradient_clip_val is 1.0, but clipping by the norm",
    "--trainer.accumulate_grad_batches 2": "trainer.accumulate_grad_batches must be 1, got 2",
    "--trainer.devices 0": "trainer.devices must be auto or a number of workers, 1 or more, got 0",
    "--trainer.num_nodes 0": "trainer.num_nodes must be 1 or more, got 0",
    "--trainer.num_nodes null": "trainer.num_nodes: expected a whole number, got null",
    "--trainer.num_nodes -2": "trainer.num_nodes must be 1 or more, got -2",
    "--trainer.num_nodes 3": "trainer.num_nodes is 3, but the number of this node is unknown",
    "--trainer.strategy ddp": "trainer.strategy must be stacks, got ddp",
    "--trainer.fast_dev_run true": "trainer.fast_dev_run must be False, got True",
    "--trainer.overfit_batches 2": "trainer.overfit_batches must be 0.0, got 2",
    "--trainer.limit_train_batches 2": "trainer.limit_train_batches must be 1.0, got 2",
    "--trainer.limit_val_batches 0.5": "trainer.limit_val_batches must be 1.0, got 0.5",
    "--trainer.max_steps 5": "trainer.max_steps must be -1, got 5",
    "--trainer.max_time 00:00:10:00": "trainer.max_time would couple rounds or end them early",
    "--trainer.num_sanity_val_steps 2": "trainer.num_sanity_val_steps must be 0, got 2",
    "--trainer.check_val_every_n_epoch 2": "trainer.check_val_every_n_epoch must be 1, got 2",
    "--trainer.val_check_interval 0.5": "trainer.val_check_interval must be 1.0, got 0.5",
    "--trainer.detect_anomaly true": "trainer.detect_anomaly must be False, got True",
    f"--trainer.callbacks+={CALLBACKS}.EarlyStopping --trainer.callbacks.monitor=x": "EarlyStopping would couple",
    f"--trainer.callbacks+={CALLBACKS}.StochasticWeightAveraging --trainer.callbacks.swa_lrs=0.1": "WeightAveraging",
    f"--trainer.callbacks+={CALLBACKS}.WeightAveraging": "callback WeightAveraging would couple",
    f"--trainer.callbacks+={CALLBACKS}.BatchSizeFinder": "callback BatchSizeFinder would couple",
    f"--trainer.callbacks+={CALLBACKS}.LearningRateFinder": "callback LearningRateFinder would couple",
    "--model.optimizer torch.optim.LBFGS": "model.optimizer is LBFGS, which may couple rounds",
    "--model.optimizer torch.optim.Adafactor": "model.optimizer is Adafactor, which may couple rounds",
    "--model.lr_scheduler lightning.pytorch.cli.ReduceLROnPlateau --model.lr_scheduler.monitor x": "ReduceLROnPlateau",
    f"--model.lr_scheduler {SCHEDULERS}.OneCycleLR --model.lr_scheduler.max_lr 1 --model.lr_scheduler.total_steps 9":
        "model.lr_scheduler is OneCycleLR, which would couple rounds",
    f"--model.lr_scheduler {SCHEDULERS}.CyclicLR --model.lr_scheduler.base_lr 1 --model.lr_scheduler.max_lr 2 "
    "--model.lr_scheduler.cycle_momentum false": "model.lr_scheduler is CyclicLR, which would couple rounds",
}  # fmt: skip


@pytest.mark.parametrize("options", [*MISTAKES, *MIXING])
@pytest.mark.quick(24)
def test_invalid_option_gives_one_line_and_no_run(
    options: str, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(CONFIGS / "cnn_aux.yaml")
    root = ["--trainer.default_root_dir", str(tmp_path)]
    message = run_rejected(["fit", "--config", config, *tiny_options, *root, *options.split()], capsys)
    assert re.search((MISTAKES | MIXING)[options], message)
    assert not list(tmp_path.iterdir())


def test_an_unknown_config_file(capsys: pytest.CaptureFixture[str]) -> None:
    expected = "--config nowhere.yaml: there is no file nowhere.yaml in .*, and no bundled config of that name"
    assert re.search(expected, run_rejected(["fit", "--config", "nowhere.yaml"], capsys))
    suggestion = r"no bundled config of that name: did you mean cnn_aux\? \(list them with pairs-lit configs"
    assert re.search(suggestion, run_rejected(["fit", "--config", "cnn_auxx"], capsys))


def test_invalid_yaml_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("model: [")
    assert "config" in run_rejected(["fit", "--config", str(path)], capsys)


def test_an_unknown_key_in_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text((CONFIGS / "cnn_aux.yaml").read_text().replace("belhadj/", f"{CONFIGS}/belhadj/") + "  speed: 3\n")
    assert "speed" in run_rejected(["fit", "--config", str(path)], capsys)


def test_a_misspelt_key_in_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {aux_weight: 3}")
    message = run_rejected(["fit", "--config", str(path)], capsys)
    assert "unknown option model.aux_weight: did you mean model.loss.aux_weight? (pairs-lit" in message


def with_value(key: str, value: object, tmp_path: Path) -> list[str]:
    """Return the arguments of a fit whose config sets one option to another value."""
    content = yaml.safe_load((CONFIGS / "cnn_aux.yaml").read_text())
    *outer, last = key.split(".")
    place = content
    for name in outer:
        place = place[name]
    place[last] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return ["fit", "--config", str(path)]


@pytest.mark.parametrize("section", ["nokey", "data.nokey", "model.loss.nokey"])
def test_empty_unknown_section(section: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"unknown option {section} (" in run_rejected(with_value(section, {}, tmp_path), capsys)


@pytest.mark.parametrize(
    "option", ["data.batch_size", "data.relation", "model.code_activation", "model.loss.aux_weight", "rounds.seed"]
)
def test_null_for_an_option_that_does_not_allow_it(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert option in run_rejected(with_value(option, None, tmp_path), capsys)


def test_a_missing_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "model.backbone" in run_rejected(["fit"], capsys)


def test_long_list_of_types_is_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = run_rejected(with_value("trainer", {"logger": [0]}, tmp_path), capsys)
    assert (
        "trainer.logger: expected the class path of a subclass of Logger, a list such as [module.Class], true or false"
        in message
    )
    assert "got [0]" in message


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown command 'train': use one of fit, validate, test, predict" in run_rejected(["train"], capsys)
    assert "unknown command 'fitt': did you mean fit? use one of fit, validate" in run_rejected(["fitt"], capsys)


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_evaluation_without_a_checkpoint(
    command: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = run_rejected([command, "--config", str(CONFIGS / "fc.yaml"), *tiny_options], capsys)
    advice = f"Name a run folder, as in pairs-lit {command} RUN, or add --ckpt_path RUN"
    assert f"{command} needs a trained network. {advice}" in message


@pytest.mark.parametrize("path", ["last", "best", "hpc", "https://localhost/a.ckpt", "."])
def test_only_local_files_are_checkpoints(
    path: str, tiny_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["test", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, "--ckpt_path", path]
    assert "no such file" in run_rejected(arguments, capsys)


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--rounds.seed 1", "seeds is 0 in the checkpoint and 1 in the config"),
        ("--rounds.count 2", "seeds is \\[0, 1, 2\\] in the checkpoint and \\[0, 1\\] in the config"),
        ("--rounds.stack_size 2", "stack_size is 3 in the checkpoint and 2 in the config"),
        ("--data.source digits", "source is mnist \\(unverified\\) in the checkpoint and digits in the config"),
        ("--data.relation gt", "relation is le in the checkpoint and gt in the config"),
        ("--data.train_pairs 41", "train_pairs is 40 in the checkpoint and 41 in the config"),
        ("--data.image_size 28", "network is|image_size is 14 in the checkpoint and 28 in the config"),
        ("--data.normalise unit", "normalise is raw in the checkpoint and unit in the config"),
        ("--model.backbone.widths [11,10]", "out_features=10.* in the checkpoint and .*out_features=11"),
        ("--model.backbone.activation tanh", "ReLU\\(\\) in the checkpoint and .*Tanh\\(\\) in the config"),
        ("--model.code_activation tanh", "network is .* in the checkpoint and .* in the config"),
    ],
)
@pytest.mark.quick(4)
def test_a_checkpoint_of_another_config(
    command: str, option: str, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "events" not in path.name}
    error = run_rejected([command, *last, *option.split()], capsys)
    assert "the checkpoint does not match the config" in error
    assert re.search(message, error)
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture(scope="module")
def run(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    options = f"--data.root {tiny_root} --data.source mnist --data.allow_unverified true --data.train_pairs 40 "
    options += "--data.val_pairs 20 --data.test_pairs 30 --rounds.count 3 --trainer.max_epochs 1"
    config = str(CONFIGS / "fc_aux.yaml")
    assert main(["fit", "--config", config, *options.split(), "--trainer.default_root_dir", str(root)]) == 0
    (folder,) = root.glob("lightning_logs/*/*")
    return folder


def test_a_checkpoint_that_is_damaged(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(config="fc")
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    arguments = ["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(last)]
    assert "damaged, or not a checkpoint" in run_rejected(arguments, capsys)


def test_a_checkpoint_that_pairs_lit_did_not_write(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, path)
    arguments = ["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(path)]
    assert "not a checkpoint that pairs-lit wrote" in run_rejected(arguments, capsys)


def _fit_from(root: Path) -> list[str]:
    return ["fit", "--config", str(CONFIGS / "fc.yaml"), "--data.source", "mnist", "--data.root", str(root)]


def test_a_truncated_mnist_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_mnist(tmp_path) / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:-100])
    message = run_rejected([*_fit_from(tmp_path), "--data.allow_unverified", "true"], capsys)
    assert re.search("t10k-images-idx3-ubyte is not in MNIST's format", message)


def test_an_altered_mnist_file(mnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        (raw / file.name).symlink_to(file.resolve())
    labels = raw / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[100] ^= 1
    labels.unlink()
    labels.write_bytes(content)
    message = run_rejected(_fit_from(tmp_path), capsys)
    assert re.search("train-labels-idx1-ubyte is not MNIST's file", message)


def test_mnist_download_without_internet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairs_lit.data.mnist._is_reachable", lambda mirrors: False)
    assert "its servers do not answer. Set data.root" in run_rejected(_fit_from(tmp_path), capsys)


def test_a_folder_that_cannot_be_written(
    tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    arguments = ["fit", "--config", str(CONFIGS / "fc.yaml"), *tiny_options, "--trainer.default_root_dir", str(blocked)]
    message = run_rejected(arguments, capsys)
    assert re.search("no run folder can be created in .*Set --trainer.default_root_dir", message)

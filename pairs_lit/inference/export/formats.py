"""Export formats of trained networks: ONNX, ``torch.export`` and safetensors."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import Literal, cast

import torch
from torch import Tensor, nn

from pairs_lit import __version__
from pairs_lit.data.image_format import ImageFormat
from pairs_lit.errors import PairsLitError
from pairs_lit.inference.export.program import (
    INPUT_NAME,
    build_trial_inputs,
    check_predictions,
    export_program,
    silence_exporters,
)
from pairs_lit.inference.preprocessing import Preprocessing
from pairs_lit.nn.backbones import TorchModule
from pairs_lit.nn.pair_network import PairNetwork
from pairs_lit.nn.round_network import RoundNetwork
from pairs_lit.system.tracebacks import format_reason

ExportFormat = Literal["onnx", "torch", "state_dict"]
"""An ONNX model, a program of ``torch.export``, or the weights alone as safetensors."""

SUFFIXES: Mapping[ExportFormat, str] = {"onnx": ".onnx", "torch": ".pt2", "state_dict": ".safetensors"}

_REQUIRED_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": (), "state_dict": ("safetensors",)}
_OUTPUT_NAMES = ["probability", "digit_logits"]
METADATA_FILE = "pairs_lit.json"
"""The name of the metadata within a ``.pt2`` file."""

_PREPROCESSING_TEMPLATE = (
    "{before}average-pool grey images (0 ... 255, {polarity}) to image_size, then (x / divisor - mean) / std"
)
_RELATION_MEANINGS = {"le": "first <= second", "lt": "first < second", "ge": "first >= second", "gt": "first > second"}


def check_installed(to: ExportFormat) -> None:
    """Raise PairsLitError if the libraries of a format are not installed."""
    missing = [name for name in _REQUIRED_PACKAGES[to] if find_spec(name) is None]
    if missing:
        raise PairsLitError(f"--to {to} needs {', '.join(missing)}. Run: pip install 'pairs-lit[export]'.")


def build_metadata(
    prepare: Preprocessing,
    relation: str,
    facts: Mapping[str, str],
    known: ImageFormat | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, str]:
    """Return the metadata of an exported file.

    Args:
        prepare: How images are preprocessed.
        relation: The relation whose probability the network returns.
        facts: Further metadata, such as seed and source.
        known: The format of the training images, or None if the run does not record it.
        class_names: The names of the classes in their order, or empty if they are called by their numbers.
    """
    size = prepare.image_size
    return {
        "producer": f"pairs_lit {__version__}",
        "relation": f"{relation}: {_RELATION_MEANINGS[relation]}",
        "input": f"prepared pairs, (N, 2, {size}, {size}) float32",
        "preparing": _describe_preprocessing(known),
        **_describe_image_format(known),
        "class_names": json.dumps(list(class_names)),
        **{name: str(value) for name, value in asdict(prepare).items()},
        **facts,
    }


def _describe_preprocessing(known: ImageFormat | None) -> str:
    """Return a description of how images are preprocessed."""
    if known is None:
        return _PREPROCESSING_TEMPLATE.format(before="", polarity="light on dark, as far as is known")
    sides = f"{known.size}x{known.size}"
    transposed = "exchange rows and columns of images stored as the training images were; " if known.transposed else ""
    return _PREPROCESSING_TEMPLATE.format(before=f"{transposed}resize to {sides}; ", polarity=known.polarity)


def _describe_image_format(known: ImageFormat | None) -> dict[str, str]:
    """Return the format of the training images as metadata."""
    if known is None:
        return {"polarity": "unknown"}
    return {
        "polarity": known.polarity,
        "size": str(known.size),
        "original_size": known.original_size or f"{known.size}x{known.size}",
        "transposed": str(known.transposed).lower(),
        "value_range": f"{known.lowest} ... {known.highest}",
        "image_format": known.to_text(),
    }


def export_network(
    to: ExportFormat, network: RoundNetwork, prepare: Preprocessing, metadata: Mapping[str, str]
) -> bytes:
    """Return the content of an exported file.

    Args:
        to: The format.
        network: The network, in evaluation mode.
        prepare: How its images are preprocessed.
        metadata: The metadata from :func:`build_metadata`.

    Raises:
        PairsLitError: The network cannot be exported to this format.
    """
    if to == "onnx":
        return _export_onnx(network, prepare, metadata)
    return _export_program(network, prepare, metadata) if to == "torch" else _export_state_dict(network, metadata)


def _export_program(network: RoundNetwork, prepare: Preprocessing, metadata: Mapping[str, str]) -> bytes:
    program, content = export_program(network, prepare), io.BytesIO()
    with silence_exporters():
        torch.export.save(
            program,
            content,
            extra_files={METADATA_FILE: json.dumps({**metadata, **_describe_outputs(network, prepare)})},
        )
    return content.getvalue()


def _export_onnx(network: RoundNetwork, prepare: Preprocessing, metadata: Mapping[str, str]) -> bytes:
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    program, output = export_program(network, prepare), _describe_outputs(network, prepare)
    names = [name for name in _OUTPUT_NAMES if name in output]
    try:
        with silence_exporters():
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=names,
                dynamic_shapes={INPUT_NAME: {0: "N"}},
            )
        assert onnx_program is not None
        model = onnx_program.model_proto
        for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
            del node.metadata_props[:]  # they contain paths of this machine
        onnx.helper.set_model_props(model, {**metadata, **output})
        content: bytes = model.SerializeToString()
        options = SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = InferenceSession(content, options)
    except Exception as error:  # exporter and runtime raise errors of any class
        reason = re.split(r"\n|\. ", format_reason(error))[0]
        raise PairsLitError(
            f"the network cannot be exported to ONNX ({reason}). Use --to torch, or --to state_dict, which always "
            "works."
        ) from error

    def run(pairs: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(output) for output in session.run(names, {INPUT_NAME: pairs.numpy()}))

    check_predictions(network, run, build_trial_inputs(prepare))
    return content


def _describe_outputs(network: RoundNetwork, prepare: Preprocessing) -> dict[str, str]:
    """Return descriptions of the network's outputs, by their names."""
    with torch.no_grad():
        output = network(build_trial_inputs(prepare)[0])
    texts = {"probability": "P(relation), (N,) float32"}
    return texts | ({"digit_logits": f"(N, 2, {output[1].shape[-1]}) float32"} if isinstance(output, tuple) else {})


def _export_state_dict(network: RoundNetwork, metadata: Mapping[str, str]) -> bytes:
    from safetensors.torch import save

    parts = _get_round_parts(network)
    state = {f"{prefix}{name}": value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    other = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise PairsLitError(f"{other} of the network must be a tensor to be saved as safetensors. Use --to torch.")
    classes = dict(_get_class_name(prefix, part) for prefix, part in parts.items())
    # cloned, because safetensors cannot store tensors that share memory
    return save(
        {name: value.detach().clone().contiguous() for name, value in state.items()},
        {**metadata, "classes": json.dumps(classes)},
    )


def _get_class_name(prefix: str, part: nn.Module) -> tuple[str, str]:
    """Return the prefix of a part's weights, and the class that they belong to."""
    if isinstance(part, TorchModule):  # a wrapper of this package, which only resizes images
        prefix, part = f"{prefix}module.", part.module
    return prefix, f"{type(part).__module__}.{type(part).__qualname__}"


def _get_round_parts(network: RoundNetwork) -> dict[str, nn.Module]:
    """Return the parts of a round's network by the prefix of their weights in the file."""
    members = [cast(PairNetwork, member) for member in network.members]
    if len(members) > 1 or network.views is not None:
        return {
            f"members.{number}.{prefix}": part
            for number, member in enumerate(members)
            for prefix, part in _get_network_parts(member).items()
        }
    # no prefix, so that the weights of a complete user network load into its class
    return _get_network_parts(members[0]) if members[0].network is None else {"": members[0].network}


def _get_network_parts(network: PairNetwork) -> dict[str, nn.Module]:
    """Return the parts of one network by the prefix of their weights."""
    backbones = [] if network.network is not None else network.backbones
    parts = {"network.": network.network} | {f"branches.{place}.": part for place, part in enumerate(backbones)}
    parts |= {"readout.": network.readout, "head.": network.head}
    return {prefix: part for prefix, part in parts.items() if part is not None}

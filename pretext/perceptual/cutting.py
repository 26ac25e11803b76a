"""torchvision's networks, cut behind the last node that is wanted; until weights are put in, they cost nothing."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from pretext.errors import ConfigError

TRACE_SIZE = 128  # px; every network of the catalogue, cut anywhere, takes an image of this side
# Arguments without which torchvision would add side branches, or shift the input's channels by itself.
PLAIN: dict[str, dict[str, Any]] = {name: {"aux_logits": False, "transform_input": False, "init_weights": True}
                                    for name in ("googlenet", "inception_v3")}  # fmt: skip
# What a traced function may do to the output of the node before, and what does the same elsewhere.
IN_PLACE: dict[Any, Any] = {operator.iadd: operator.add, operator.imul: operator.mul, torch.relu_: torch.relu}


def cut_network(name: str, wanted: Sequence[str], nodes: Sequence[str] = ()) -> tuple[fx.GraphModule, list[int]]:
    """A network without weights, on the meta device, that ends where the last of the wanted nodes is computed.

    Args:
        name: torchvision's name of it.
        wanted: Nodes of its graph.
        nodes: Its layers 1, 2, ..., for the error.

    Returns:
        A module in eval mode, from a normalised image_BCHW to {node: its output}, which works in place only where
        nobody can see it; and the channels of each wanted node.

    Raises:
        ConfigError: If there is no such node, or its output is neither a map nor a vector.
    """
    with torch.device("meta"):
        model = get_model(name, weights=None, **PLAIN.get(name, {})).eval()
        try:
            both = create_feature_extractor(model, {node: node for node in wanted}, suppress_diff_warning=True).eval()
        except ValueError as error:
            there = get_graph_node_names(model, suppress_diff_warning=True)[1]
            absent = [node for node in wanted if not any(f"{path}.".startswith(f"{node}.") for path in there)]
            raise _no_layer(name, absent[0], nodes) from error
        graph = fx.GraphModule(both, both.eval_graph)
        for node in graph.graph.nodes:
            node.target = IN_PLACE.get(node.target, node.target)
        _work_in_place(graph)
        graph.recompile()
        found = graph(torch.empty(1, 3, TRACE_SIZE, TRACE_SIZE))
    for node, value in found.items():
        if not isinstance(value, Tensor) or value.ndim not in (2, 4):
            raise _no_layer(name, node, nodes)
    return graph, [found[node].shape[1] for node in wanted]


def _work_in_place(graph: fx.GraphModule) -> None:
    """Let activations overwrite what they read where only they read it, and the backward pass of its maker doesn't either.

    New memory costs as much as the activation itself. A module that is called several times must be free to in every call.
    """
    modules = dict(graph.named_modules())
    free: dict[str, bool] = {}
    for node in graph.graph.nodes:
        is_module = node.op == "call_module" and hasattr(modules[node.target], "inplace")
        if not is_module and "inplace" not in node.kwargs:
            continue
        maker = node.args[0]
        made = modules[maker.target] if maker.op == "call_module" else maker.target
        may = len(maker.users) == 1 and (made is operator.add or isinstance(made, nn.Conv2d | nn.BatchNorm2d))
        if is_module:
            free[node.target] = free.get(node.target, True) and may
        else:
            node.kwargs = {**node.kwargs, "inplace": may}
    for name, may in free.items():
        modules[name].inplace = may  # type: ignore[assignment]


def fold_scale(graph: fx.GraphModule, scale_C: Tensor) -> bool:
    """Divide what reads the image by the scale of its channels instead of the image; whether that could be done.

    A convolution is linear and what it pads with is 0, so its weights can take the division: exact but for rounding.
    """
    image = next(node for node in graph.graph.nodes if node.op == "placeholder")
    readers = [graph.get_submodule(str(user.target)) for user in image.users if user.op == "call_module"]
    able = [reader for reader in readers if isinstance(reader, nn.Conv2d) and reader.padding_mode == "zeros"]
    if len(able) < len(image.users):
        return False
    for convolution in dict.fromkeys(able):
        convolution.weight = nn.Parameter(convolution.weight.detach() / scale_C[:, None, None])
    return True


def random_tensors(name: str, needed: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """What torchvision draws for a new network right after this seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        tensors = get_model(name, weights=None, **PLAIN.get(name, {})).state_dict()
    return {key: tensors[key] for key in needed}


def layer_numbers(nodes: Sequence[str]) -> tuple[str, ...]:
    """The layers of a network by number: "1", "2", ..."""
    return tuple(str(number) for number in range(1, len(nodes) + 1))


def _no_layer(name: str, layer: str, nodes: Sequence[str]) -> ConfigError:
    numbers = f"{layer_numbers(nodes)[0]} to {layer_numbers(nodes)[-1]} and " if nodes else ""
    return ConfigError(f"--layer '{layer}' is no layer of {name}; it has {numbers}the nodes of torchvision's graph that are "
                       f"maps or vectors{', such as ' + nodes[0] if nodes else ''}")  # fmt: skip

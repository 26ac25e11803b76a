"""torchvision's networks, cut behind the last node that is wanted; until weights are put in, they cost nothing."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
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
        A module in eval mode, from a normalised image_BCHW to {node: its output}, none of whose functions work in
        place, though its modules may; and the channels of each wanted node.

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
            node.kwargs = {key: False if key == "inplace" else value for key, value in node.kwargs.items()}
        graph.recompile()
        found = graph(torch.empty(1, 3, TRACE_SIZE, TRACE_SIZE))
    for node, value in found.items():
        if not isinstance(value, Tensor) or value.ndim not in (2, 4):
            raise _no_layer(name, node, nodes)
    return graph, [found[node].shape[1] for node in wanted]


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

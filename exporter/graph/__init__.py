"""The ONNX graph of every network, built node by node from a checkpoint's arrays.

Open `building` first (inputs, outputs, the order of things), then `nodes` (how matrices are stored), `entrance` and
`layers` (what the bodies are made of), and one module per network.
"""

from exporter.graph.building import OPSET, build_graph
from exporter.graph.entrance import CLIP
from exporter.graph.nodes import Graph, quantise_rows

__all__ = ["CLIP", "OPSET", "Graph", "build_graph", "quantise_rows"]

"""What arrays a network has: names, shapes and allowed sizes, without torch.

A network is told by its name, its layout and its sizes (`Described`). Defaults of all sizes stand here alone. A
checkpoint is checked against these shapes before an array is read, so that a file cannot choose how much memory it
takes. Where a size was left open by the paper, the network's own module says what was chosen. The trap: these shapes
are written by hand beside the torch modules; a test holds both equal for every network.

F columns, C classes; `windows` reads F values a step, `row` one value a step and F steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.terminal import brief

NAMES: Final = (
    "gru",
    "conv_bilstm",
    "conv_bilstm_small",
    "cnn_lstm_attention",
    "cnn_self_attention",
    "transformer",
)
PLAIN_NAMES: Final = ("dnn", "rnn", "cnn")  # the papers' ablations: one kind of layer only
LAYOUTS: Final = ("windows", "row")
SCALING_ARRAYS: Final = ("unit", "mean", "std", "keep")
UNKNOWN_PREFIX: Final = "unknown_"
STATISTICS: Final = ("running_mean", "running_var")  # measured by batch normalisation, not learnt

WINDOW: Final = 16  # W of the agent
POOL: Final = 2  # of the row layout; windows are too short to be pooled
MAX_SIZE: Final = 4096
MAX_LAYERS: Final = 8

Size = int | bool | tuple[int, ...]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Described:
    """A network's name, layout and sizes; `sizes` holds all of them, `features` and `classes` too."""

    name: str
    layout: str
    sizes: Mapping[str, Size]

    def count(self, key: str) -> int:
        """Return a size that is one number."""
        value = self.sizes[key]
        assert isinstance(value, int)
        return value

    def counts(self, key: str) -> tuple[int, ...]:
        """Return a size that is a number per layer."""
        value = self.sizes[key]
        assert isinstance(value, tuple)
        return value

    @property
    def has_attention(self) -> bool:
        """Say whether the network's own attention is in it."""
        return bool(self.sizes.get("attention", self.name == "transformer"))

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint's facts keep under `network`."""
        sizes = {key: list(value) if isinstance(value, tuple) else value for key, value in self.sizes.items()}
        return {"name": self.name, "layout": self.layout, "sizes": sizes}


def describe(name: str, *, layout: str, features: int, classes: int, **sizes: Any) -> Described:
    """Return the network with defaults for the sizes not given. Raises ValueError for what no network can be."""
    if name not in (*NAMES, *PLAIN_NAMES):
        raise ValueError(f"no network {brief(name)}, there are {', '.join((*NAMES, *PLAIN_NAMES))}")
    if layout not in LAYOUTS:
        raise ValueError(f"no layout {brief(layout)}, there are {', '.join(LAYOUTS)}")
    defaults = _defaults(name, layout=layout, features=_count("features", features))
    if unknown := sorted(set(sizes) - set(defaults)):
        raise ValueError(f"{name} in layout {layout} has no size {brief(', '.join(unknown))}")
    told: dict[str, Size] = {key: _like(key, sizes.get(key, default), default) for key, default in defaults.items()}
    told |= {"features": features, "classes": _count("classes", classes)}
    described = Described(name, layout, told)
    if "kernel" in told and not described.count("kernel") % 2:
        raise ValueError(f"kernel must be odd, got {told['kernel']}")
    if "heads" in told and described.count("width") % described.count("heads"):
        raise ValueError(f"width {told['width']} is not a multiple of heads {told['heads']}")
    return described


def described_by(facts: Any) -> Described:
    """Return the network that a checkpoint's facts tell of. Raises ValueError where they tell of none."""
    if not isinstance(facts, Mapping) or set(facts) != {"name", "layout", "sizes"}:
        raise ValueError("wanted an object of name, layout and sizes")
    sizes = facts["sizes"]
    if not isinstance(sizes, Mapping) or not {"features", "classes"} <= set(sizes) or {"name", "layout"} & set(sizes):
        raise ValueError("wanted sizes with features and classes")
    return describe(facts["name"], layout=facts["layout"], **sizes)


def array_shapes(network: Described) -> Shapes:
    """Return the shape of every array of a network, by name."""
    features, classes = network.count("features"), network.count("classes")
    shapes: Shapes = dict.fromkeys(SCALING_ARRAYS, (features,))
    inputs = features if network.layout == "windows" else 1
    shapes |= _BODIES[network.name](network, inputs)
    embedding = network.count("embedding") if "embedding" in network.sizes else network.counts("dense")[-1]
    return shapes | {"head_w": (classes, embedding), "head_b": (classes,)}


def pooled_steps(features: int, layers: int) -> int:
    """Return how many steps of a row are left after as many poolings."""
    covered: int = POOL**layers
    return -(-features // covered)


def is_learnt(name: str) -> bool:
    """Say whether an array of this name holds parameters: not scaling, statistics or the unknown score's arrays."""
    return name not in SCALING_ARRAYS and not name.startswith(UNKNOWN_PREFIX) and not name.endswith(STATISTICS)


def _defaults(name: str, *, layout: str, features: int) -> dict[str, Size]:
    # "Kernel size equal to n" of the Conv-BiLSTM: of a row, its n columns, made odd so that it has a middle.
    wide = features - (features + 1) % 2 if layout == "row" else 3
    window: dict[str, Size] = {"window": WINDOW} if layout == "windows" else {}
    sizes: dict[str, dict[str, Size]] = {
        "gru": {"hidden": 64, "embedding": 32},
        "conv_bilstm": {
            "filters": 256, "kernel": wide, "hidden": 64, "second": 128, "dense": (64, 32, 16), "attention": True,
        },
        "conv_bilstm_small": {
            "filters": 48, "kernel": min(wide, 31), "hidden": 32, "second": 0, "dense": (32,), "attention": True,
        },
        "cnn_lstm_attention": {
            "filters": (32, 64, 128), "kernel": 3, "hidden": 64, "dense": (256, 128, 64), "attention": True, **window,
        },
        "cnn_self_attention": {"filters": (64, 64, 64), "kernel": 3, "dense": (128, 128), "attention": True},
        "transformer": {"width": 32, "heads": 4, "layers": 2, "inner": 64, "embedding": 32, **window},
        "dnn": {"dense": (256, 128, 64)},
        "rnn": {"hidden": 64, "dense": (64,)},
        "cnn": {"filters": (32, 64, 128), "kernel": 3, "dense": (64,)},
    }  # fmt: skip
    return sizes[name]


def _like(key: str, value: Any, default: Size) -> Size:
    """Return a size of the kind of its default, within bounds."""
    if isinstance(default, bool):
        if value is not True and value is not False:
            raise ValueError(f"{key} must be true or false, got {brief(value)}")
        return value
    if isinstance(default, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= MAX_LAYERS:
            raise ValueError(f"{key} must be 1 to {MAX_LAYERS} counts, got {brief(value)}")
        return tuple(_count(key, each) for each in value)
    if key == "layers" and value not in range(1, MAX_LAYERS + 1):
        raise ValueError(f"layers must be 1 to {MAX_LAYERS}, got {brief(value)}")
    return _count(key, value, least=0 if key == "second" else 1)


def _count(key: str, value: Any, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SIZE:
        raise ValueError(f"{key} must be a whole number from {least} to {MAX_SIZE}, got {brief(value)}")
    return value


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _dense(inputs: int, widths: Sequence[int]) -> Shapes:
    shapes: Shapes = {}
    for place, width in enumerate(widths):
        shapes |= _linear(f"dense.layers.{place}", inputs, width)
        inputs = width
    return shapes


def _convolutions(inputs: int, filters: Sequence[int], kernel: int) -> Shapes:
    shapes: Shapes = {}
    for place, outputs in enumerate(filters):
        shapes |= {f"convolutions.layers.{place}.weight": (outputs, inputs, kernel)}
        shapes |= {f"convolutions.layers.{place}.bias": (outputs,)}
        inputs = outputs
    return shapes


def _recurrent(name: str, inputs: int, hidden: int, *, gates: int) -> Shapes:
    return {
        f"{name}.weight_ih_l0": (gates * hidden, inputs),
        f"{name}.weight_hh_l0": (gates * hidden, hidden),
        f"{name}.bias_ih_l0": (gates * hidden,),
        f"{name}.bias_hh_l0": (gates * hidden,),
    }


def _both_ways(name: str, inputs: int, hidden: int) -> Shapes:
    return {
        **_recurrent(f"{name}.ahead", inputs, hidden, gates=4),
        **_recurrent(f"{name}.back", inputs, hidden, gates=4),
    }


def _norm(name: str, width: int) -> Shapes:
    return dict.fromkeys((f"{name}.{part}" for part in ("weight", "bias", *STATISTICS)), (width,))


def _gru(network: Described, inputs: int) -> Shapes:
    hidden, embedding = network.count("hidden"), network.count("embedding")
    return {
        "gru_w": (3 * hidden, inputs), "gru_r": (3 * hidden, hidden), "gru_bw": (3 * hidden,), "gru_br": (3 * hidden,),
        "embed_w": (embedding, hidden), "embed_b": (embedding,),
    }  # fmt: skip


def _conv_bilstm(network: Described, inputs: int) -> Shapes:
    filters, hidden, second = (network.count(key) for key in ("filters", "hidden", "second"))
    shapes = _convolutions(inputs, [filters], network.count("kernel"))
    shapes |= _norm("after_convolution", filters) | _both_ways("bilstm", filters, hidden)
    shapes |= _norm("after_bilstm", 2 * hidden)
    if network.has_attention:
        shapes |= _linear("score_hidden", 2 * hidden, hidden) | _linear("score", hidden, 1)
    if second:
        shapes |= _both_ways("second_bilstm", 1, second)
    return shapes | _dense(2 * (second or hidden), network.counts("dense"))


def _cnn_lstm_attention(network: Described, inputs: int) -> Shapes:
    filters, hidden = network.counts("filters"), network.count("hidden")
    shapes = _convolutions(inputs, filters, network.count("kernel"))
    shapes |= _recurrent("lstm", filters[-1], hidden, gates=4)
    context = 0
    if network.has_attention:
        shapes |= _linear("weigh", hidden, _steps(network, len(filters)))
        context = filters[-1]
    return shapes | _dense(hidden + context, network.counts("dense"))


def _cnn_self_attention(network: Described, inputs: int) -> Shapes:
    filters = network.counts("filters")
    shapes = _convolutions(inputs, filters, network.count("kernel"))
    if network.has_attention:
        for part in ("query", "key", "value"):
            shapes |= _linear(part, filters[-1], filters[-1])
    return shapes | _dense(_read_out(network, filters), network.counts("dense"))


def _transformer(network: Described, inputs: int) -> Shapes:
    width, heads, inner = (network.count(key) for key in ("width", "heads", "inner"))
    tokens = network.count("features") if network.layout == "row" else network.count("window")
    shapes: Shapes = {"places": (tokens, width)}
    shapes |= {"values": (tokens, width)} if network.layout == "row" else _linear("enter", inputs, width)
    for layer in range(network.count("layers")):
        name = f"blocks.{layer}"
        for part in ("query", "key", "value"):
            shapes |= {f"{name}.{part}": (heads, width // heads, width)}
        shapes |= _linear(f"{name}.mix", width, width)
        shapes |= _linear(f"{name}.widen", width, inner) | _linear(f"{name}.narrow", inner, width)
        for part in ("before_attention", "before_inner"):
            shapes |= {f"{name}.{part}.weight": (width,), f"{name}.{part}.bias": (width,)}
    shapes |= {"last_norm.weight": (width,), "last_norm.bias": (width,)} | _linear("score", width, 1)
    return shapes | _linear("embed", width, network.count("embedding"))


def _dnn(network: Described, inputs: int) -> Shapes:
    return _dense(2 * inputs if network.layout == "windows" else network.count("features"), network.counts("dense"))


def _rnn(network: Described, inputs: int) -> Shapes:
    hidden = network.count("hidden")
    return _recurrent("rnn", inputs, hidden, gates=1) | _dense(hidden, network.counts("dense"))


def _cnn(network: Described, inputs: int) -> Shapes:
    filters = network.counts("filters")
    shapes = _convolutions(inputs, filters, network.count("kernel"))
    return shapes | _dense(_read_out(network, filters), network.counts("dense"))


def _steps(network: Described, layers: int) -> int:
    if network.layout == "windows":
        return network.count("window")
    return pooled_steps(network.count("features"), layers)


def _read_out(network: Described, filters: Sequence[int]) -> int:
    """Return how many numbers leave the convolutions: newest and mean of a window, all steps of a row."""
    if network.layout == "windows":
        return 2 * filters[-1]
    return pooled_steps(network.count("features"), len(filters)) * filters[-1]


_BODIES: Final[dict[str, Callable[[Described, int], Shapes]]] = {
    "gru": _gru,
    "conv_bilstm": _conv_bilstm,
    "conv_bilstm_small": _conv_bilstm,
    "cnn_lstm_attention": _cnn_lstm_attention,
    "cnn_self_attention": _cnn_self_attention,
    "transformer": _transformer,
    "dnn": _dnn,
    "rnn": _rnn,
    "cnn": _cnn,
}

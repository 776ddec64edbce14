"""A network by name, or the one a checkpoint describes. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from training.networks.cnn_lstm_attention import CnnLstmAttention
from training.networks.cnn_self_attention import CnnSelfAttention
from training.networks.conv_bilstm import ConvBilstm
from training.networks.gru import GruNetwork
from training.networks.network import Arrays, Network
from training.networks.plain import Cnn, Dnn, Rnn
from training.networks.transformer import Transformer
from training.shapes import Described, describe, described_by

_MAKERS: Final[dict[str, Callable[[Described], Network]]] = {
    "gru": lambda described: GruNetwork(layout=described.layout, **described.sizes),  # type: ignore[arg-type]
    "conv_bilstm": ConvBilstm,
    "conv_bilstm_small": ConvBilstm,
    "cnn_lstm_attention": CnnLstmAttention,
    "cnn_self_attention": CnnSelfAttention,
    "transformer": Transformer,
    "dnn": Dnn,
    "rnn": Rnn,
    "cnn": Cnn,
}


def build(name: str, *, layout: str, features: int, classes: int, **sizes: Any) -> Network:
    """Return an untaught network: one of NAMES or PLAIN_NAMES, for `windows` of flow records or for one `row`.

    Sizes not given are those of `training.shapes`; `attention=False` takes the attention out of the papers' networks.
    Raises ValueError for a name, layout or size that cannot be.
    """
    return _built(describe(name, layout=layout, features=features, classes=classes, **sizes))


def network_of(arrays: Arrays, facts: Mapping[str, Any] | None = None) -> Network:
    """Return the network of a checkpoint, ready to judge (dropout off).

    `facts` is what the checkpoint's facts hold under `network`; without it the arrays are a `gru` over windows, as all
    were before there were others.
    """
    if facts is None:
        sizes = {"hidden": arrays["gru_r"].shape[1], "embedding": arrays["embed_b"].size}
        described = describe(
            "gru", layout="windows", features=arrays["mean"].size, classes=arrays["head_b"].size, **sizes
        )
    else:
        described = described_by(facts)
    network = _built(described)
    network.load(arrays)
    network.eval()
    return network


def _built(described: Described) -> Network:
    return _MAKERS[described.name](described)

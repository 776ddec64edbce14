"""Which slices of which arrays belong to one unit of a network: what structured pruning takes away together.

A unit is a GRU or LSTM unit, a channel of a convolution or a unit of a dense layer. A `Cut` names one size of a network
and every place where its units stand; arrays are named as in the module's state_dict. The trap: where two halves stand
one behind the other (both directions of an LSTM, newest beside mean), unit n of both goes together, since both halves
have one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from training.errors import CheckpointError
from training.shapes import STATISTICS, Described, pooled_steps


class Tie(NamedTuple):
    """Units along one axis of an array: `blocks` runs of all units, one after the other, from `start` on."""

    array: str
    axis: int
    blocks: int = 1
    start: int = 0


@dataclass(frozen=True)
class Cut:
    """One size of a network: its name, its place where there is one per layer, how many units, where they stand."""

    size: str
    place: int | None
    units: int
    ties: tuple[Tie, ...]


def cuts_of(network: Described) -> list[Cut]:
    """Return every cut of a network. Raises CheckpointError for one whose units are not known here."""
    if network.name not in _CUTS:
        raise CheckpointError(f"{network.name} cannot be pruned, wanted one of {', '.join(sorted(_CUTS))}")
    return list(_CUTS[network.name](network))


def _rows(layer: str) -> tuple[Tie, ...]:
    """Return the outputs of a dense layer or convolution."""
    return Tie(f"{layer}.weight", 0), Tie(f"{layer}.bias", 0)


def _norm(layer: str, *, blocks: int = 1) -> tuple[Tie, ...]:
    return tuple(Tie(f"{layer}.{part}", 0, blocks) for part in ("weight", "bias", *STATISTICS))


def _recurrent(layer: str, *, gates: int) -> tuple[Tie, ...]:
    return (
        Tie(f"{layer}.weight_ih_l0", 0, gates),
        Tie(f"{layer}.weight_hh_l0", 0, gates),
        Tie(f"{layer}.weight_hh_l0", 1),
        Tie(f"{layer}.bias_ih_l0", 0, gates),
        Tie(f"{layer}.bias_hh_l0", 0, gates),
    )


def _both_ways(layer: str) -> tuple[Tie, ...]:
    return (*_recurrent(f"{layer}.ahead", gates=4), *_recurrent(f"{layer}.back", gates=4))


def _dense(widths: Sequence[int]) -> Iterator[Cut]:
    for place, units in enumerate(widths):
        reader = f"dense.layers.{place + 1}.weight" if place + 1 < len(widths) else "head.weight"
        yield Cut("dense", place, units, (*_rows(f"dense.layers.{place}"), Tie(reader, 1)))


def _convolutions(filters: Sequence[int], readers: tuple[Tie, ...]) -> Iterator[Cut]:
    """Give a cut per convolution; `readers` is what stands behind the last."""
    for place, units in enumerate(filters):
        layer = f"convolutions.layers.{place}"
        behind = (Tie(f"convolutions.layers.{place + 1}.weight", 1),) if place + 1 < len(filters) else readers
        yield Cut("filters", place, units, (*_rows(layer), *behind))


def _gru(network: Described) -> Iterator[Cut]:
    yield Cut("hidden", None, network.count("hidden"), (*_recurrent("gru", gates=3), Tie("embed.weight", 1)))
    skip = (Tie("skip.weight", 0),) if network.sizes["skip"] else ()
    yield Cut("embedding", None, network.count("embedding"), (*_rows("embed"), *skip, Tie("head.weight", 1)))


def _conv_bilstm(network: Described) -> Iterator[Cut]:
    filters, hidden, second = (network.count(size) for size in ("filters", "hidden", "second"))
    inputs = (Tie("bilstm.ahead.weight_ih_l0", 1), Tie("bilstm.back.weight_ih_l0", 1))
    yield Cut("filters", None, filters, (*_rows("convolutions.layers.0"), *_norm("after_convolution"), *inputs))
    ties = (*_both_ways("bilstm"), *_norm("after_bilstm", blocks=2))
    if network.has_attention:
        # The scoring layer has as many units as the LSTM; they are units of their own, and go by the same number.
        ties += (Tie("score_hidden.weight", 1, 2), *_rows("score_hidden"), Tie("score.weight", 1))
    if second:
        # The second BiLSTM reads the first one's units as steps: fewer of them are a shorter sequence, no slice.
        both = (*_both_ways("second_bilstm"), Tie("dense.layers.0.weight", 1, 2))
        yield Cut("second", None, second, both)
    else:
        ties += (Tie("dense.layers.0.weight", 1, 2),)
    yield Cut("hidden", None, hidden, ties)
    yield from _dense(network.counts("dense"))


def _cnn_lstm_attention(network: Described) -> Iterator[Cut]:
    hidden = network.count("hidden")
    features: tuple[Tie, ...] = (Tie("lstm.weight_ih_l0", 1),)
    ties = (*_recurrent("lstm", gates=4), Tie("dense.layers.0.weight", 1))
    if network.has_attention:
        # [h; c]: the weighted features stand behind the hidden state.
        features += (Tie("dense.layers.0.weight", 1, 1, hidden),)
        ties += (Tie("weigh.weight", 1),)
    yield from _convolutions(network.counts("filters"), features)
    yield Cut("hidden", None, hidden, ties)
    yield from _dense(network.counts("dense"))


def _cnn(network: Described) -> Iterator[Cut]:
    filters = network.counts("filters")
    steps = 2 if network.layout == "windows" else pooled_steps(network.count("features"), len(filters))
    readers: tuple[Tie, ...] = (Tie("dense.layers.0.weight", 1, steps),)
    if network.sizes.get("attention"):
        # Query, key and value have the convolution's width; their own outputs go by the same number.
        readers += tuple(Tie(f"{part}.weight", 1) for part in ("query", "key", "value"))
        readers += tuple(tie for part in ("query", "key", "value") for tie in _rows(part))
    yield from _convolutions(filters, readers)
    yield from _dense(network.counts("dense"))


def _rnn(network: Described) -> Iterator[Cut]:
    ties = (*_recurrent("rnn", gates=1), Tie("dense.layers.0.weight", 1))
    yield Cut("hidden", None, network.count("hidden"), ties)
    yield from _dense(network.counts("dense"))


def _dnn(network: Described) -> Iterator[Cut]:
    yield from _dense(network.counts("dense"))


_CUTS: Final[dict[str, Callable[[Described], Iterator[Cut]]]] = {
    "gru": _gru,
    "conv_bilstm": _conv_bilstm,
    "conv_bilstm_small": _conv_bilstm,
    "cnn_lstm_attention": _cnn_lstm_attention,
    "cnn_self_attention": _cnn,
    "cnn": _cnn,
    "rnn": _rnn,
    "dnn": _dnn,
}

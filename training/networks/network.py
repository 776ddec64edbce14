"""What every network shares: scaling inside, two layouts of input, a head over an embedding, attention beside it.

Input is raw; scaling is inside, so that what is exported needs no other file:
    x = sign(v) * log1p(|v| / unit);  x = clip((x - mean) / std, -CLIP, CLIP) * keep
`unit` is the size below which a column's differences mean nothing (a millisecond for times: microseconds tell the
link, not the behaviour); `keep` is 0 for a column this network must not see. Needs torch.

Layouts: `windows` is float32[B, W, F], a device's flow records, left-aligned, with lengths int64[B]; `row` is
float32[B, F], one record read as F steps of one value. S is the number of steps: W or F. The trap: what stands in a
window's rows beyond its length must not change any output; whoever adds a layer masks what that layer lets through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.shapes import SCALING_ARRAYS, UNKNOWN_PREFIX, Described

CLIP = 4.0
DROPOUT = 0.2

Arrays = Mapping[str, NDArray[np.float32]]


class Judged(NamedTuple):
    """What a network says: logits [B, C], embedding [B, E], attention [B, S] (of real steps, summing to 1)."""

    logits: Tensor
    embedding: Tensor
    attention: Tensor


class Steps(NamedTuple):
    """Input as a sequence: values [B, S, N], mask [B, S] (1 = real) or None where all steps are, lengths int64[B]."""

    values: Tensor
    mask: Tensor | None
    lengths: Tensor


class Network(nn.Module):
    """Base of all networks. A subclass gives `body`: steps -> embedding and attention (None: evenly spread)."""

    unit: Tensor
    mean: Tensor
    std: Tensor
    keep: Tensor
    state_names: Mapping[str, str] = {"head_w": "head.weight", "head_b": "head.bias"}
    # The head has the same name in every checkpoint, since gateways fine-tune it alone; the rest as in state_dict.

    def __init__(self, described: Described) -> None:
        super().__init__()
        self.described = described
        for name, value in zip(SCALING_ARRAYS, (1.0, 0.0, 1.0, 1.0), strict=True):
            self.register_buffer(name, torch.full((described.count("features"),), value))
        self.dropout = nn.Dropout(DROPOUT)

    def add_head(self, embedding: int) -> None:
        """Add the head; a subclass calls it last, since the order decides which random numbers a seed gives to whom."""
        self.head = nn.Linear(embedding, self.described.count("classes"))

    @property
    def is_row(self) -> bool:
        """Say whether input is one row rather than a window of rows."""
        return self.described.layout == "row"

    @property
    def step_width(self) -> int:
        """Return how many values one step has."""
        return 1 if self.is_row else self.described.count("features")

    def scale(self, windows: Tensor) -> Tensor:
        """Return float32[B, W, F] or [B, F] as the network sees it, every value within [-CLIP, CLIP]."""
        x = torch.sign(windows) * torch.log1p(torch.abs(windows) / self.unit)
        return torch.clamp((x - self.mean) / self.std, -CLIP, CLIP) * self.keep

    def body(self, steps: Steps) -> tuple[Tensor, Tensor | None]:
        """Return embedding [B, E] and attention [B, S], None where this network has none."""
        raise NotImplementedError

    def judge(self, scaled: Tensor, lengths: Tensor | None = None) -> Judged:
        """Return all outputs of scaled input; `lengths` int64[B] counts a window's rows (at least 1), none for rows."""
        steps = self._steps(scaled, lengths)
        embedding, attention = self.body(steps)
        return Judged(self.head(embedding), embedding, _even(steps) if attention is None else attention)

    def embedding(self, scaled: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return float32[B, E] of scaled input."""
        return self.body(self._steps(scaled, lengths))[0]

    def logits(self, scaled: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return float32[B, C] of scaled input."""
        return self.head(self.embedding(scaled, lengths))

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return class probabilities float32[B, C] of raw input and, for windows, their mask float32[B, W]."""
        lengths = None if mask is None else mask.sum(dim=1).long().clamp(min=1)
        return torch.softmax(self.logits(self.scale(windows), lengths), dim=1)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights as a checkpoint names them."""
        names = {state: name for name, state in self.state_names.items()}
        return {
            names.get(state, state): tensor.detach().cpu().numpy().astype(np.float32).copy()
            for state, tensor in self.state_dict().items()
        }

    def load(self, arrays: Arrays) -> None:
        """Take over the weights a checkpoint keeps; arrays of the unknown score are not the network's."""
        own = {name: array for name, array in arrays.items() if not name.startswith(UNKNOWN_PREFIX)}
        self.load_state_dict({self.state_names.get(name, name): torch.from_numpy(array) for name, array in own.items()})

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint's facts keep under `network`."""
        return self.described.facts()

    def _steps(self, scaled: Tensor, lengths: Tensor | None) -> Steps:
        if self.is_row:
            count, steps = scaled.shape
            return Steps(scaled[:, :, None], None, torch.full((count,), steps, device=scaled.device))
        if lengths is None:
            raise ValueError("a window's lengths are needed: what lies beyond them is padding")
        real = torch.arange(scaled.shape[1], device=scaled.device)[None, :] < lengths[:, None]
        # Not a product: 0 times what is no number is no number.
        return Steps(torch.where(real[:, :, None], scaled, 0.0), real.to(scaled.dtype), lengths)


def _even(steps: Steps) -> Tensor:
    if steps.mask is None:
        return torch.full(steps.values.shape[:2], 1.0 / steps.values.shape[1], device=steps.values.device)
    return steps.mask / steps.mask.sum(dim=1, keepdim=True)

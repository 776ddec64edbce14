from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Octets: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]
WholeNumbers: TypeAlias = Iterable[int] | NDArray[np.integer[Any]]
Pairs: TypeAlias = Iterable[tuple[int, int]] | NDArray[np.integer[Any]]

class FrameBlock:
    """Room for `capacity` frames, `count` of them filled. Whoever fills it owns the octets behind the pointers."""

    first_number: int

    def __init__(self, capacity: int = ...) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def count(self) -> int: ...
    def __len__(self) -> int: ...
    def clear(self) -> None: ...
    @staticmethod
    def of(
        frames: Iterable[Octets],
        times_us: WholeNumbers,
        *,
        link_type: int | str = ...,
        wire_bytes: WholeNumbers | None = ...,
        vlan: Pairs | None = ...,
        first_number: int = ...,
    ) -> FrameBlock: ...
    @staticmethod
    def view(
        buffer: Any,
        offsets: WholeNumbers,
        lengths: WholeNumbers,
        times_us: WholeNumbers,
        *,
        link_type: int | str = ...,
        wire_bytes: WholeNumbers | None = ...,
        vlan: Pairs | None = ...,
        first_number: int = ...,
    ) -> FrameBlock: ...

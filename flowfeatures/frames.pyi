class FrameBlock:
    """Room for `capacity` frames. Whoever fills it owns the octets behind the pointers."""

    capacity: int
    count: int
    first_number: int

    def __init__(self, capacity: int = ...) -> None: ...

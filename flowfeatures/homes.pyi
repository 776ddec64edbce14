from collections.abc import Iterable

DEFAULT_HOME_NETS: tuple[str, ...]

class HomeNets:
    """A few networks, given as CIDR texts; `address in nets` takes the 16 octets of a record."""

    def __init__(self, texts: Iterable[str] = ...) -> None: ...
    def __contains__(self, address: object) -> bool: ...

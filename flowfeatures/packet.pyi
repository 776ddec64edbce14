LINK_TYPES: dict[int, str]
"""LINKTYPE_ numbers that are decoded, and their short names."""

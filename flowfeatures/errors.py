"""The errors flowfeatures raises on purpose; what the wire does wrong is counted instead (see `FlowMeter.counters`).

    FlowFeaturesError            70
    ├── CaptureNotFound          66   missing, unreadable, or neither a file nor a pipe
    ├── CaptureFormatError       65   empty, not a capture, broken in the middle
    │   ├── UnknownLinkType      65   a link layer that is not decoded
    │   └── CaptureTruncated     65   ends inside a frame; raised after every whole frame was delivered
    └── MissingExtra             69   pandas or pyarrow is not installed

The number is the exit code a program should end with (sysexits.h).
"""


class FlowFeaturesError(Exception):
    """Base of all errors flowfeatures raises on purpose."""

    exit_code = 70


class CaptureNotFound(FlowFeaturesError):
    """The capture cannot be opened."""

    exit_code = 66


class CaptureFormatError(FlowFeaturesError):
    """The file is not a capture that can be read."""

    exit_code = 65


class UnknownLinkType(CaptureFormatError):
    """Every interface of the capture has a link type that is not decoded."""


class CaptureTruncated(CaptureFormatError):
    """The file ends inside a frame. Every whole frame before it was delivered."""


class MissingExtra(FlowFeaturesError):
    """An optional package is not installed; the message holds the pip line."""

    exit_code = 69

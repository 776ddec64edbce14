"""Packets to flows to records to device windows, as a library of its own.

Read `meter.py` first: it is the loop. One packet passes `files` (frames of a capture), `packet` (header fields),
`table` (its biflow, which is `flow`), `vector` (the columns of a record) and `window` (the records of one device).
Knows no model and opens no socket.

>>> from flowfeatures import FlowMeter, open_capture
>>> meter = FlowMeter()
>>> with open_capture("capture.pcap") as capture:       # doctest: +SKIP
...     for records in meter.read(capture):
...         print(records["columns"][:, 0])
"""

from flowfeatures.addresses import address_bytes, address_text, mac_text
from flowfeatures.batch import AFTER, EXCLUDED, WindowBatch
from flowfeatures.columns import (
    COLUMNS,
    CONTEXT_COLUMNS,
    END_REASONS,
    SCHEMA_ID,
    UNDECODED_REASONS,
    VECTOR_COLUMNS,
    WINDOW_COLUMNS,
    Column,
)
from flowfeatures.community import community_id
from flowfeatures.errors import (
    CaptureFormatError,
    CaptureNotFound,
    CaptureTruncated,
    FlowFeaturesError,
    UnknownLinkType,
)
from flowfeatures.files import Capture, open_capture
from flowfeatures.homes import DEFAULT_HOME_NETS, HomeNets
from flowfeatures.meter import FlowMeter
from flowfeatures.records import FLOW_META, RECORD
from flowfeatures.settings import FlowSettings
from flowfeatures.table_csv import write_csv
from flowfeatures.window import DeviceWindows

__all__ = [
    "AFTER",
    "COLUMNS",
    "CONTEXT_COLUMNS",
    "DEFAULT_HOME_NETS",
    "END_REASONS",
    "EXCLUDED",
    "FLOW_META",
    "RECORD",
    "SCHEMA_ID",
    "UNDECODED_REASONS",
    "VECTOR_COLUMNS",
    "WINDOW_COLUMNS",
    "Capture",
    "CaptureFormatError",
    "CaptureNotFound",
    "CaptureTruncated",
    "Column",
    "DeviceWindows",
    "FlowFeaturesError",
    "FlowMeter",
    "FlowSettings",
    "HomeNets",
    "UnknownLinkType",
    "WindowBatch",
    "address_bytes",
    "address_text",
    "community_id",
    "mac_text",
    "open_capture",
    "write_csv",
]

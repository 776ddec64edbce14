"""Packets to flows to records to device windows, as a library of its own.

Read `meter.py` first: it is the loop. One packet passes `files` or `frames` (blocks of raw frames), `packet` (header
fields), `table` (its biflow, which is `flow`), `vector` (the columns of a record) and `window` (the records of one
device). Records are numpy arrays of dtype RECORD; `to_pandas`, `write_parquet` and `write_csv` make tables of them.
Knows no model and opens no socket. docs/flowfeatures.md shows all of it at work.

    from itertools import chain
    from flowfeatures import FlowMeter, open_capture, to_pandas

    meter = FlowMeter()
    with open_capture("capture.pcap") as capture:
        flows = to_pandas(chain(meter.read(capture), meter.flush()))
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
    MissingExtra,
    UnknownLinkType,
)
from flowfeatures.files import Capture, open_capture
from flowfeatures.frames import FrameBlock
from flowfeatures.homes import DEFAULT_HOME_NETS, HomeNets
from flowfeatures.meter import FlowMeter
from flowfeatures.packet import LINK_TYPES
from flowfeatures.records import FLOW_META, RECORD
from flowfeatures.settings import FlowSettings
from flowfeatures.table_csv import write_csv
from flowfeatures.table_pandas import to_pandas
from flowfeatures.table_parquet import write_parquet
from flowfeatures.window import DeviceWindows

__all__ = [
    "AFTER",
    "COLUMNS",
    "CONTEXT_COLUMNS",
    "DEFAULT_HOME_NETS",
    "END_REASONS",
    "EXCLUDED",
    "FLOW_META",
    "LINK_TYPES",
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
    "FrameBlock",
    "HomeNets",
    "MissingExtra",
    "UnknownLinkType",
    "WindowBatch",
    "address_bytes",
    "address_text",
    "community_id",
    "mac_text",
    "open_capture",
    "to_pandas",
    "write_csv",
    "write_parquet",
]

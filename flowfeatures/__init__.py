"""Packets to flows to records to device windows, as a library of its own.

    read      open_capture, Capture; FrameBlock.of and FrameBlock.view for frames at hand, LINK_TYPES
    meter     FlowMeter, FlowSettings
    records   RECORD, FLOW_META, COLUMNS (each a Column), END_REASONS, UNDECODED_REASONS
    values    address_text, address_bytes, mac_text, community_id
    tables    to_pandas, write_parquet, write_csv
    devices   DeviceWindows, WindowBatch, WINDOW_COLUMNS, HomeNets
    errors    FlowFeaturesError and what stands under it

A capture becomes a DataFrame in five lines; docs/flowfeatures.md shows the rest at work, docs/FEATURES.md defines the
columns.

    from itertools import chain
    from flowfeatures import FlowMeter, open_capture, to_pandas

    meter = FlowMeter()
    with open_capture("capture.pcap") as capture:
        flows = to_pandas(chain(meter.read(capture), meter.flush()))

To read the code, begin with `meter.py`: it is the loop. Then go with a packet; what stands in brackets can wait.

    1 open     frames: a block that points at raw frames, filled by files (streams, unpacking: where octets come from;
               octets: a window of them; walk, pcap, pcapng: frames in it), by ring, or at hand (frame_arguments)
    2 decode   packet: header fields
    3 meter    table: a packet finds its flow (key, pool, memory, prefetch); flow: what it changes; counters: what it
               adds up (moments); lifetimes: when flows leave, and why (wheel)
    4 vector   vector: the columns of a record (columns, records: their names and layout)
    5 window   window: the last records of one device (homes, recent, batch)
    beside     keep: the newest frames, copied; settings, errors, extras; addresses, community; table_columns,
               table_csv, table_pandas, table_parquet

A `.pxd` holds the structs of the `.pyx` beside it, and is often the better beginning. Knows no model, opens no socket.
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

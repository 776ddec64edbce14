"""The last hop: alerts to files, streams and syslog and, over an outbox on disk, to a broker. Open `delivery` first."""

from agent.delivery.broker import MqttSettings
from agent.delivery.delivery import Delivery
from agent.delivery.eve import EveFile
from agent.delivery.eve_sink import EveSink
from agent.delivery.inbox import Incoming, Subscription
from agent.delivery.outbox import Bounds, Outbox
from agent.delivery.protection import secret_file
from agent.delivery.sink import Sink
from agent.delivery.stdout import StdoutSink
from agent.delivery.syslog import SyslogSettings, SyslogSink

__all__ = [
    "Bounds",
    "Delivery",
    "EveFile",
    "EveSink",
    "Incoming",
    "MqttSettings",
    "Outbox",
    "Sink",
    "StdoutSink",
    "Subscription",
    "SyslogSettings",
    "SyslogSink",
    "secret_file",
]

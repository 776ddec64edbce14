"""The last hop: alerts to eve.json and, over an outbox on disk, to an MQTT broker. Open `delivery` first."""

from agent.delivery.broker import MqttSettings, read_password
from agent.delivery.delivery import Delivery
from agent.delivery.eve import EveFile
from agent.delivery.outbox import Bounds, Outbox
from contracts.eve import render_eve

__all__ = ["Bounds", "Delivery", "EveFile", "MqttSettings", "Outbox", "read_password", "render_eve"]

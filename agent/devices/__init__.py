"""Which device an address is: names, MACs and moves, heard on the link; and which networks are home.

Read `devices.py` first: what is believed, when, and in how much memory. `watch.py` is what the service calls.
"""

from agent.devices.devices import Devices
from agent.devices.home import home_nets_of, joined, own_addresses
from agent.devices.listener import DeviceListener
from agent.devices.report import Move
from agent.devices.watch import DeviceWatch

__all__ = [
    "DeviceListener",
    "DeviceWatch",
    "Devices",
    "Move",
    "home_nets_of",
    "joined",
    "own_addresses",
]

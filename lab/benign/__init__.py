"""What the lab's hosts do when nobody attacks: one function per kind of activity, run in a thread on its host.

Rhythms and sizes come from the plan; each function repeats its deed until the lab stops. A peer that does not answer is
part of normal life, so network errors are swallowed here and nowhere else. The trap: threads share one interpreter, so
whatever must be fast or heavy is left to a program (curl, iperf3, mosquitto_pub).
"""

from __future__ import annotations

from collections.abc import Callable

from lab.benign import chores, datagrams, requests, visits
from lab.benign.actor import Actor

ACTIVITIES: dict[str, Callable[[Actor], None]] = {
    "mqtt_stay": requests.mqtt_stay,
    "mqtt_call": requests.mqtt_call,
    "http_poll": requests.http_poll,
    "http_push": requests.http_push,
    "http_burst": requests.http_burst,
    "download": requests.download,
    "stay_connected": requests.stay_connected,
    "watch": requests.watch,
    "registers": requests.registers,
    "ping": requests.ping,
    "knock_in_vain": requests.knock_in_vain,
    "look_round": requests.look_round,
    "speed_test": requests.speed_test,
    "names": datagrams.names,
    "names_burst": datagrams.names_burst,
    "dig": datagrams.dig,
    "clock": datagrams.clock,
    "lease": datagrams.lease,
    "start_up": datagrams.start_up,
    "announce": datagrams.announce,
    "datagram_talk": datagrams.datagram_talk,
    "datagram_stream": datagrams.datagram_stream,
    "ssh_visit": visits.ssh_visit,
    "telnet_visit": visits.telnet_visit,
    "web_login": visits.web_login,
    "ftp_visit": visits.ftp_visit,
}
# Drawn only where they are asked for by name, so that the older plans mean what they meant.
FURTHER: dict[str, Callable[[Actor], None]] = {
    "mqtt_sessions": chores.mqtt_sessions,
    "mqtt_tls": chores.mqtt_sessions,
    "https_push": requests.http_push,
    "coap_read": chores.coap_read,
    "coap_write": chores.coap_write,
    "coap_observe": chores.coap_observe,
    "firmware": chores.firmware,
    "backup": chores.backup,
    "web_admin": chores.web_admin,
    "inventory": chores.inventory,
    "setpoint": chores.setpoint,
    "mdns_browse": chores.mdns_browse,
    "ssdp_search": chores.ssdp_search,
}
ORDINARY = tuple(ACTIVITIES)
ACTIVITIES |= FURTHER

__all__ = ["ACTIVITIES", "FURTHER", "ORDINARY", "Actor"]

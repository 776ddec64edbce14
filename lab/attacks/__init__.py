"""The catalogue of attacks: for each technique, a function that draws one bounded `Attack` from a scene.

Pure: draws names, rates and arguments, starts nothing. What is drawn spans slow and fast, answered, refused and
silent, inside and outside, since the shipped network learns here what it must recognise elsewhere. The trap: an
attack's `proto` and `ports` must match every packet of it and none of what its attacker otherwise says to its victim.
"""

from __future__ import annotations

from lab.attacks import floods, guessing, misuse, scans, slow, takeover
from lab.attacks.scene import NoVictim, Scene
from lab.attacks.technique import Technique

_FIRST = (
    guessing.telnet_hydra,
    guessing.telnet_bot,
    floods.syn_flood,
    scans.port_scan,
    scans.horizontal_scan,
    scans.mirai_search,
    guessing.ssh_hydra,
    guessing.ftp_hydra,
    guessing.web_hydra,
    guessing.mqtt_bot,
    floods.udp_flood,
    floods.icmp_flood,
    floods.odd_flag_flood,
    floods.http_flood,
    floods.mqtt_connect_flood,
    floods.mqtt_publish_flood,
    scans.service_scan,
    scans.silent_scan,
    scans.slow_scan,
    scans.ping_sweep,
    floods.reflection,
    slow.slow_dos,
    takeover.beacon,
    takeover.name_tunnel,
    takeover.upload,
    misuse.misuse,
    misuse.web_attack,
)
_FURTHER = (
    scans.plain_scan,
    scans.stealth_scan,
    scans.udp_scan,
    scans.os_scan,
    scans.doors_scan,
    scans.creeping_scan,
    guessing.form_hydra,
    floods.name_reflection,
    floods.spoofed_udp_flood,
    floods.carpet_flood,
    floods.reset_flood,
    floods.http_post_flood,
    slow.slowloris,
    slow.slow_post,
    slow.slow_read,
    slow.slowite,
    takeover.jittered_beacon,
    takeover.web_beacon,
    takeover.iodine_tunnel,
    takeover.slow_leak,
    takeover.mirai_life,
    takeover.arp_spoof,
    misuse.modbus_storm,
    misuse.modbus_mapping,
    misuse.mqtt_fuzz,
    misuse.topic_bombing,
    misuse.web_scan,
    misuse.injection,
)
TECHNIQUES: dict[str, Technique] = {technique.name: technique for technique in (*_FIRST, *_FURTHER)}
# What is drawn where no technique is asked for: the recordings of lab/recordings.txt mean these, in this order.
ORDINARY: tuple[str, ...] = tuple(technique.name for technique in _FIRST)

__all__ = ["ORDINARY", "TECHNIQUES", "NoVictim", "Scene"]

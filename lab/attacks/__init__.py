"""The catalogue of attacks: for each technique, a function that draws one bounded `Attack` from a scene.

Pure: draws names, rates and arguments, starts nothing. What is drawn spans slow and fast, answered, refused and
silent, inside and outside, since the shipped network learns here what it must recognise elsewhere. The trap: an
attack's `proto` and `ports` must match every packet of it and none of what its attacker otherwise says to its victim.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.attacks import floods, guessing, misuse, scans
from lab.attacks.scene import NoVictim, Scene
from lab.plan import Attack

TECHNIQUES: dict[str, Callable[[Scene], Attack]] = {
    draw.__name__: draw
    for draw in (
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
        floods.slow_dos,
        misuse.beacon,
        misuse.name_tunnel,
        misuse.upload,
        misuse.misuse,
        misuse.web_attack,
    )
}

__all__ = ["TECHNIQUES", "NoVictim", "Scene"]

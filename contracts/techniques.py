"""The names MITRE ATT&CK gives the techniques of the class table, for formats that want names beside ids."""

from __future__ import annotations

from typing import Final, NamedTuple

TECHNIQUE_NAMES: Final = {
    "T1046": "Network Service Discovery",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1071": "Application Layer Protocol",
    "T1110": "Brute Force",
    "T1190": "Exploit Public-Facing Application",
    "T1498": "Network Denial of Service",
    "T1498.001": "Direct Network Flood",
    "T1498.002": "Reflection Amplification",
    "T1499": "Endpoint Denial of Service",
    "T1499.002": "Service Exhaustion Flood",
    "T1499.004": "Application or System Exploitation",
    "T1584": "Compromise Infrastructure",
    "T1584.005": "Botnet",
}


class Technique(NamedTuple):
    """A technique, or sub-technique, by id and name."""

    uid: str
    name: str


def techniques_of(uid: str) -> list[Technique]:
    """Return the technique of an id, and after it the sub-technique where the id names one.

    >>> [each.uid for each in techniques_of("T1498.001")]
    ['T1498', 'T1498.001']
    """
    parent = uid.partition(".")[0]
    return [Technique(each, TECHNIQUE_NAMES[each]) for each in dict.fromkeys((parent, uid))]

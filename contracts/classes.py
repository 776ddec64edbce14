"""The one table of attack classes: what each is called in data sets, in MITRE ATT&CK and in an alert.

The index of a class is the number the network's head, the labels of windows and the ground truth share; it never
changes. `unknown` is the last and has no output of the head: it comes from the unknown score (and from labels this
table does not know). Signature ids are 9000000 + index for an attacker outside home_nets and 9000100 + index for
one inside, so that a rule in a SIEM can tell an attacked device from a taken-over one.

Trap: a label is looked up by its leading words (`amplification_snmp` is `amplification`), so a label that means
something else than its first words must stand in the table in full (`dos_slowite` is not `dos`).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from contracts.terminal import brief

FIRST_SIGNATURE_ID: Final = 9_000_000  # above every range in use by Emerging Threats and the Suricata project
INSIDE_OFFSET: Final = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AttackClass:
    """One class. `labels` are normalised (`normalise_label`); `technique` is a MITRE ATT&CK id or None.

    `category` is Suricata's description of the rule class nearest in meaning, because SIEMs group by it;
    `severity` is the default of D8: 2 a normal alert, 3 unknown behaviour.
    """

    index: int
    name: str
    labels: tuple[str, ...]
    technique: str | None
    category: str
    signature_outside: str
    signature_inside: str
    severity: int = 2

    @property
    def signature_id_outside(self) -> int:
        return FIRST_SIGNATURE_ID + self.index

    @property
    def signature_id_inside(self) -> int:
        return FIRST_SIGNATURE_ID + INSIDE_OFFSET + self.index

    def signature_id(self, *, inside: bool) -> int:
        """Return the id an alert carries; `inside` says that the attacker is a home device."""
        return self.signature_id_inside if inside else self.signature_id_outside

    def signature(self, *, inside: bool) -> str:
        """Return the text an alert carries; `inside` says that the attacker is a home device."""
        return self.signature_inside if inside else self.signature_outside


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(word for line in lines for word in line.split())


CLASSES: Final[tuple[AttackClass, ...]] = (
    AttackClass(
        index=0,
        name="benign",
        labels=_words("benign normal legitimate background iot_setup iot_week mqtt_sensors protocol_sample"),
        technique=None,
        category="Not Suspicious Traffic",
        signature_outside="PENSTOCK benign traffic",
        signature_inside="PENSTOCK benign traffic from a home device",
        severity=3,
    ),
    AttackClass(
        index=1,
        name="scan",
        labels=_words(
            "scan scanning port_scan portscan host_scan ping_sweep recon reconnaissance os_fingerprint os_scan",
            "vulnerability_scan vulnerability_scanner vulnerabilityscan partofahorizontalportscan",
            "infiltration_portscan",  # CICIDS2017, corrected
            "probe satan ipsweep portsweep nmap mscan saint",  # NSL-KDD
        ),
        technique="T1046",  # Network Service Discovery
        category="Detection of a Network Scan",
        signature_outside="PENSTOCK scan of home devices",
        signature_inside="PENSTOCK home device scans",
    ),
    AttackClass(
        index=2,
        name="brute_force",
        labels=_words(
            "brute_force bruteforce password password_guessing dictionary dictionarybruteforce",
            "telnet_brute_force ssh_brute_force ftp_brute_force mqtt_brute_force ssh_bruteforce ftp_bruteforce",
            "ftp_patator ssh_patator",  # CICIDS2017
            "guess_passwd snmpguess",  # NSL-KDD
        ),
        technique="T1110",  # Brute Force
        category="Attempted User Privilege Gain",
        signature_outside="PENSTOCK password guessing against a home device",
        signature_inside="PENSTOCK home device guesses passwords",
    ),
    AttackClass(
        index=3,
        name="flood",
        labels=_words(
            "flood dos ddos syn_flood ack_flood rst_flood udp_flood icmp_flood http_flood mqtt_flood",
            "dos_mqtt_flood dos_malaria malariados malaria",  # MQTTset
            "dos_hulk dos_goldeneye",  # CICIDS2017
            "neptune back apache2 mailbomb",  # NSL-KDD
        ),
        technique="T1498.001",  # Network Denial of Service: Direct Network Flood
        category="Attempted Denial of Service",
        signature_outside="PENSTOCK flood against a home device",
        signature_inside="PENSTOCK home device floods",
    ),
    AttackClass(
        index=4,
        name="reflection",
        labels=_words(
            "reflection amplification drdos",
            "smurf udpstorm",  # NSL-KDD
        ),
        technique="T1498.002",  # Network Denial of Service: Reflection Amplification
        category="Denial of Service",
        signature_outside="PENSTOCK amplified flood against a home device",
        signature_inside="PENSTOCK home device reflects or amplifies traffic",
    ),
    AttackClass(
        index=5,
        name="slow_dos",
        labels=_words(
            "slow_dos dos_slow slow_http slow_read slowloris slowhttptest ddos_slowloris dos_attacks_slowloris",
            "dos_slowite slowite",  # MQTTset
            "dos_slowloris dos_slowhttptest dos_attacks_slowhttptest",  # CICIDS2017 and its successor
            "processtable",  # NSL-KDD
        ),
        technique="T1499.002",  # Endpoint Denial of Service: Service Exhaustion Flood
        category="Detection of a Denial of Service Attack",
        signature_outside="PENSTOCK slow exhaustion of a home device",
        signature_inside="PENSTOCK home device exhausts a service slowly",
    ),
    AttackClass(
        index=6,
        name="botnet",
        labels=_words(
            "botnet bot iot_botnet iot_botnet_scan hide_and_seek mirai gafgyt bashlite torii okiru hajime",
            "worm",  # NSL-KDD
        ),
        technique="T1584.005",  # Compromise Infrastructure: Botnet
        category="A Network Trojan was detected",
        signature_outside="PENSTOCK botnet reaches for a home device",
        signature_inside="PENSTOCK home device acts as part of a botnet",
    ),
    AttackClass(
        index=7,
        name="c2",
        labels=_words(
            "c2 c_c cnc command_and_control beacon backdoor heartbeat",
            "cnc_uploading_exe",  # modbus_cset2016
            "infiltration",  # CICIDS2017: the victim fetches a reverse shell
            "httptunnel multihop",  # NSL-KDD
        ),
        technique="T1071",  # Application Layer Protocol
        category="Malware Command and Control Activity Detected",
        signature_outside="PENSTOCK command channel to a home device",
        signature_inside="PENSTOCK home device calls a command channel",
    ),
    AttackClass(
        index=8,
        name="exfiltration",
        labels=_words(
            "exfiltration data_exfiltration data_theft theft dns_tunnel dns_exfiltration",
            "moving_two_files",  # modbus_cset2016: files carried through a taken-over controller
            "warezclient warezmaster spy",  # NSL-KDD
        ),
        technique="T1048",  # Exfiltration Over Alternative Protocol
        category="Large Scale Information Leak",
        signature_outside="PENSTOCK data pulled out of a home device",
        signature_inside="PENSTOCK home device sends data out",
    ),
    AttackClass(
        index=9,
        name="protocol_abuse",
        labels=_words(
            "protocol_abuse malformed fuzzing arp_spoof arp_spoofing dns_spoofing mitm modbus_write",
            "malformed_mqtt mqtt_malformed",  # MQTTset
            "characterization",  # modbus_cset2016: reads a controller's whole register map
            "heartbleed",  # CICIDS2017
            "teardrop pod land snmpgetattack named sendmail imap ftp_write",  # NSL-KDD
        ),
        technique="T1499.004",  # Endpoint Denial of Service: Application or System Exploitation
        category="Generic Protocol Command Decode",
        signature_outside="PENSTOCK protocol misused against a home device",
        signature_inside="PENSTOCK home device misuses a protocol",
    ),
    AttackClass(
        index=10,
        name="web_attack",
        labels=_words(
            "web_attack webattack xss sql_injection sqli command_injection",
            "brute_force_web brute_force_xss",  # the successor of CICIDS2017
            "phf",  # NSL-KDD
        ),
        technique="T1190",  # Exploit Public-Facing Application
        category="Web Application Attack",
        signature_outside="PENSTOCK web attack on a home device",
        signature_inside="PENSTOCK home device attacks a web server",
    ),
    AttackClass(
        index=11,
        name="unknown",
        labels=_words(
            "unknown attack malicious anomaly",
            # NSL-KDD, exploits that run on the host itself: the wire does not say what they are
            "r2l u2r buffer_overflow loadmodule perl rootkit ps sqlattack xterm xlock xsnoop",
        ),
        technique=None,
        category="Unknown Traffic",
        signature_outside="PENSTOCK behaviour never seen before towards a home device",
        signature_inside="PENSTOCK home device behaves as never seen before",
        severity=3,
    ),
)

NAMES: Final[tuple[str, ...]] = tuple(each.name for each in CLASSES)
BENIGN: Final = NAMES.index("benign")
UNKNOWN: Final = NAMES.index("unknown")
HEAD_NAMES: Final[tuple[str, ...]] = NAMES[:UNKNOWN]  # the C = 11 outputs of a network's head, in order

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


def class_named(name: str) -> AttackClass:
    """Return the class of that name. Raises KeyError for any other text."""
    return _BY_NAME[name]


def normalise_label(label: str) -> str:
    """Return a data set's label as lower-case words joined by underscores; what is not ASCII separates words.

    The published CICIDS2017 files spell the dash of one label in three encodings.

    >>> normalise_label("Web Attack \\u2013 Sql Injection")
    'web_attack_sql_injection'
    """
    return _NOT_A_WORD.sub("_", label.lower()).strip("_")


@functools.cache
def class_of_label(label: str) -> int:
    """Return the class index of a data set's label; `unknown`, with a warning once per label, if none fits.

    >>> NAMES[class_of_label("amplification_snmp")], NAMES[class_of_label("iot_setup:HueBridge")]
    ('reflection', 'benign')
    """
    for candidate in _leading_words(normalise_label(label)):
        if candidate in _INDEX_OF_LABEL:
            return _INDEX_OF_LABEL[candidate]
    _log.warning("label %s is not in the class table: taken as class %r", brief(label), NAMES[UNKNOWN])
    return UNKNOWN


def _leading_words(label: str) -> Iterator[str]:
    """Give the label, then the label less its last word, and so on."""
    while label:
        yield label
        label = label.rpartition("_")[0]


def _index_of_label() -> dict[str, int]:
    table: dict[str, int] = {}
    for each in CLASSES:
        for label in each.labels:
            if table.setdefault(label, each.index) != each.index:
                raise ValueError(f"label {label!r} stands in class {NAMES[table[label]]} and in {each.name}")
    return table


_BY_NAME: Final = {each.name: each for each in CLASSES}
_INDEX_OF_LABEL: Final = _index_of_label()

"""Password guessing: telnet, SSH, FTP, HTTP basic authentication, a login form, MQTT."""

from __future__ import annotations

import dataclasses

from lab.attacks.scene import Scene, bot_attack
from lab.attacks.technique import technique
from lab.plan import Attack

HYDRA_PER_S = (0.3, 50.0)  # one attempt in three seconds with -c 3; 16 tasks at what the server's answers allow
FORM = "/login:user=^USER^&pass=^PASS^:F=incorrect"


def _guess(scene: Scene, *, service: str, mitre: str = "T1110.001") -> Attack:
    """Draw a guessing attack with hydra at one of its speeds."""
    attacker = scene.attacker()
    victim, found = scene.victim(service, attacker=attacker)
    tasks = scene.rng.choice([1, 1, 2, 4, 4, 8, 16])
    limit_s = scene.between(10.0, 30.0)
    words = scene.guesses(int(scene.between(12, 160)))
    module = {
        "telnet": "telnet",
        "ssh": "ssh",
        "ftp": "ftp",
        "web": "http-get",
        "small_web": "http-get",
        "toy_site": "http-post-form",
    }[service]
    argv = ["hydra", "-I", "-q", "-C", "{words}", "-t", str(tasks), "-w", "6", "-s", str(found.port)]
    if tasks == 1 and scene.rng.random() < 0.5:
        argv += ["-c", str(scene.rng.randint(1, 3))]  # hydra waits so many seconds before each attempt
    if scene.rng.random() < 0.5:
        argv.append("-f")
    argv += [victim.address, module, *{"http-get": ["/private/"], "http-post-form": [FORM]}.get(module, [])]
    return Attack(
        technique=f"{service}_hydra",
        label="brute_force",
        mitre=mitre,
        attacker=attacker.name,
        victim=victim.name,
        starts_s=0.0,
        limit_s=limit_s,
        argv=tuple(argv),
        proto="tcp",
        ports=(found.port,),
        words=words,
    )


@technique("brute_force", mitre="T1110.001", tool="hydra", per_s=HYDRA_PER_S, needs=("telnet",))
def telnet_hydra(scene: Scene) -> Attack:
    """hydra against a telnet login."""
    return _guess(scene, service="telnet")


@technique("brute_force", mitre="T1110.001", tool="hydra", per_s=HYDRA_PER_S, needs=("ssh",))
def ssh_hydra(scene: Scene) -> Attack:
    """hydra against an SSH server."""
    return _guess(scene, service="ssh")


@technique("brute_force", mitre="T1110.001", tool="hydra", per_s=HYDRA_PER_S, needs=("ftp",))
def ftp_hydra(scene: Scene) -> Attack:
    """hydra against an FTP server."""
    return _guess(scene, service="ftp")


@technique("brute_force", mitre="T1110.001", tool="hydra", per_s=HYDRA_PER_S, needs=("web", "small_web"))
def web_hydra(scene: Scene) -> Attack:
    """hydra against HTTP basic authentication."""
    return _guess(scene, service=scene.rng.choice(["web", "small_web"]))


@technique("brute_force", mitre="T1110.001", tool="hydra", per_s=HYDRA_PER_S, needs=("toy_site",))
def form_hydra(scene: Scene) -> Attack:
    """hydra against the login form of a web page."""
    return _guess(scene, service="toy_site")


@technique("brute_force", mitre="T1110.001", tool="lab.bots", per_s=(0.3, 12.0), needs=("telnet",))
def telnet_bot(scene: Scene) -> Attack:
    """A Mirai-like guesser: few default passwords per connection."""
    return _with_words(
        scene,
        bot_attack(
            scene,
            "telnet_guess",
            service="telnet",
            label="brute_force",
            mitre="T1110.001",
            most_per_s=12,
            most=200,
            parallel=scene.rng.choice([1, 2, 4, 10]),
            hold=scene.rng.randint(1, 3),
            words="{words}",
        ),
    )


@technique("brute_force", mitre="T1110.001", tool="lab.bots", per_s=(0.3, 40.0), needs=("mqtt",))
def mqtt_bot(scene: Scene) -> Attack:
    """Passwords tried at a broker, one per connection."""
    return _with_words(
        scene,
        bot_attack(
            scene,
            "mqtt_guess",
            service="mqtt",
            label="brute_force",
            mitre="T1110.001",
            most_per_s=40,
            most=300,
            parallel=scene.rng.choice([1, 2, 4, 8]),
            words="{words}",
        ),
    )


def _with_words(scene: Scene, attack: Attack) -> Attack:
    return dataclasses.replace(attack, words=scene.guesses(60, with_right_one=0.0))

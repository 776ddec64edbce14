"""A real mosquitto for tests: found on PATH, else unpacked from Debian's packages under .cache, never installed.

`find_mosquitto` says where it is or why there is none; `Broker` runs one on a port of its own on the loopback;
`Subscriber` hears what others publish; a `Door` stands between an agent and its broker.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import queue
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.ports import free_port

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "mosquitto"
PATIENCE_S = 120.0  # a guard against hanging, on a machine that is busy with other things too


class NoMosquitto(Exception):
    """There is no mosquitto here and none could be fetched; the text says why."""


@functools.cache
def find_mosquitto() -> tuple[Path, dict[str, str]]:
    """Return the program and the environment it runs in. Raises NoMosquitto."""
    for folder in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/local/sbin"):
        if (program := shutil.which("mosquitto", path=folder)) is not None:
            return Path(program), dict(os.environ)
    if not (CACHE / "usr/sbin/mosquitto").exists():
        try:
            _fetch()
        except subprocess.TimeoutExpired as exc:
            raise NoMosquitto(f"no mosquitto on PATH, and apt-get is not through after {exc.timeout:.0f} s") from exc
    return CACHE / "usr/sbin/mosquitto", _environment(CACHE)


def _fetch() -> None:
    """Unpack mosquitto and the libraries this machine lacks; the folder appears when all is there."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoMosquitto("no mosquitto on PATH, and no apt-get to fetch one with")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent, prefix="mosquitto-") as name:
        draft = Path(name) / "root"
        draft.mkdir()
        _unpack(["mosquitto"], Path(name))
        for _ in range(5):  # a library may need another
            missing = _missing_libraries(draft)
            if not missing:
                break
            for library in missing:
                _unpack(_packages_of(library), Path(name))
        if missing := _missing_libraries(draft):
            raise NoMosquitto(f"the unpacked mosquitto lacks {', '.join(missing)}")
        with contextlib.suppress(OSError):  # another run was quicker
            draft.rename(CACHE)


def _unpack(candidates: list[str], folder: Path) -> None:
    """Download the first package there is and unpack it into folder/root."""
    complaints = []
    for options in ([], _private_lists(folder)):
        for package in candidates:
            found = _run(["apt-get", *options, "download", package], cwd=folder)
            if found.returncode == 0:
                (archive,) = folder.glob(f"{package}_*.deb")
                _run(["dpkg-deb", "-x", str(archive), "root"], cwd=folder).check_returncode()
                return
            complaints.append(found.stderr.strip().splitlines()[-1:])
        if not options:
            _run(["apt-get", *_private_lists(folder), "update"], cwd=folder)
    raise NoMosquitto(f"no mosquitto on PATH, and apt-get cannot download {candidates[0]}: {complaints[-1]}")


def _private_lists(folder: Path) -> list[str]:
    """Return options that keep package lists of our own, for a machine whose lists are empty or not ours to update."""
    for part in ("lists/partial", "archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}"]


def _missing_libraries(root: Path) -> list[str]:
    listed = _run(["ldd", str(root / "usr/sbin/mosquitto")], env=_environment(root), cwd=root)
    return re.findall(r"(\S+\.so\S*) => not found", listed.stdout)


def _packages_of(library: str) -> list[str]:
    """Return what Debian's naming rule calls the package of a library: libcjson.so.1 is in libcjson1."""
    name, _, version = library.partition(".so.")
    package = f"{name}-{version}" if name[-1].isdigit() else f"{name}{version}"
    return [package.lower(), f"{package.lower()}t64"]


def _environment(root: Path) -> dict[str, str]:
    folders = [str(folder) for folder in (*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*"))]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")]).strip(":")}


def _run(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


class Door:
    """A port through which a broker can be reached while it is open; `shut` ends what went through it."""

    def __init__(self, *, to_port: int) -> None:
        self.port = free_port()
        self._to_port = to_port
        self._listener: socket.socket | None = None
        self._links: list[socket.socket] = []

    def open(self) -> None:
        """Let connections through."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._let_in, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Cut every connection and let no other in. May be called again."""
        listener, self._listener = self._listener, None
        for link in (*self._links, *([listener] if listener is not None else [])):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._links = []

    def _let_in(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._links += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65_536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


class Broker:
    """One mosquitto on 127.0.0.1. It may be killed and started again on its port; it keeps nothing on disk."""

    def __init__(self, folder: Path, *settings: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = folder
        lines = (f"user {pwd.getpwuid(os.getuid()).pw_name}", f"listener {self.port} 127.0.0.1", "persistence false")
        if not any(line.startswith("allow_anonymous") for line in settings):
            lines += ("allow_anonymous true",)
        (folder / "mosquitto.conf").write_text("\n".join([*lines, *settings]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        """Run it; it takes connections when this returns."""
        program, environment = find_mosquitto()
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", "mosquitto.conf"], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"mosquitto does not start: {(self.folder / 'mosquitto.log').read_text()[-500:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an administrator would. May be called again."""
        self._end(signal.SIGTERM)

    def reload(self) -> None:
        """Let it read its passwords and rights again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def password_file(self, user: str, password: str) -> str:
        """Write a password file and return its name, for the setting `password_file`."""
        program, environment = find_mosquitto()
        tool = shutil.which("mosquitto_passwd") or program.parents[1] / "bin" / "mosquitto_passwd"
        command = [str(tool), "-b", "-c", "passwords", user, password]
        _run(command, cwd=self.folder, env=environment).check_returncode()
        return "passwords"

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None


@dataclass
class Subscriber:
    """Hears everything below penstock/ at QoS 1, retained messages included."""

    port: int
    tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    heard: queue.SimpleQueue[MQTTMessage] = field(default_factory=queue.SimpleQueue)

    @contextlib.contextmanager
    def listening(self, *, topics: str = "penstock/#") -> Iterator[Subscriber]:
        """Be subscribed while the block runs."""
        ready: queue.SimpleQueue[None] = queue.SimpleQueue()
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.on_connect = lambda *_: client.subscribe(topics, qos=1)
        client.on_subscribe = lambda *_: ready.put(None)
        client.on_message = lambda _client, _data, message: self.heard.put(message)
        if self.tls is not None:
            client.tls_set_context(self.tls)
        if self.login is not None:
            client.username_pw_set(*self.login)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        try:
            ready.get(timeout=PATIENCE_S)
            yield self
        finally:
            client.disconnect()
            client.loop_stop()

    def next(self) -> MQTTMessage:
        """Return the next message. Raises queue.Empty where none comes."""
        return self.heard.get(timeout=PATIENCE_S)

    def next_alerts(self, count: int) -> list[MQTTMessage]:
        """Return that many alerts, leaving out what else is heard."""
        found: list[MQTTMessage] = []
        while len(found) < count:
            message = self.next()
            if "/alert/" in message.topic:
                found.append(message)
        return found

    def availability(self, wanted: str) -> MQTTMessage:
        """Return the next message on a gateway's availability that says so."""
        while True:
            message = self.next()
            if message.topic.endswith("/availability") and message.payload.decode() == wanted:
                return message

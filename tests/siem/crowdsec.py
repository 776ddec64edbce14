"""A CrowdSec of its own for one test: found on PATH, else unpacked from Debian's package under .cache, never installed.

Its configuration, data and local API stand in a folder of the test; it knows no central API, and listens here alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.ports import free_port

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "crowdsec"
LONG_S = 180


class NoCrowdsec(Exception):
    """There is no crowdsec here and none could be fetched; the text says why."""


@functools.cache
def find_crowdsec() -> Path:
    """Return the root that holds usr/bin/crowdsec and its hub. Raises NoCrowdsec."""
    for root in (Path("/"), CACHE):
        if all((root / part).exists() for part in ("usr/bin/crowdsec", "usr/bin/cscli", "usr/share/crowdsec/hub")):
            return root
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoCrowdsec("no crowdsec, and no apt-get to fetch one with")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent, prefix="crowdsec-") as name:
        command = ["apt-get", "download", "crowdsec"]
        try:
            fetched = subprocess.run(command, cwd=name, capture_output=True, text=True, check=False, timeout=LONG_S)
        except subprocess.TimeoutExpired:
            raise NoCrowdsec(f"apt-get did not download crowdsec in {LONG_S} s") from None
        if fetched.returncode:
            raise NoCrowdsec(f"no crowdsec, and apt-get cannot download it: {fetched.stderr.strip()[-200:]}")
        (archive,) = Path(name).glob("crowdsec_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, "root"], cwd=name, check=True, timeout=LONG_S)
        if not CACHE.exists():
            (Path(name) / "root").rename(CACHE)
    return find_crowdsec.__wrapped__()


class Crowdsec:
    """One installation. `hub` names items of its own hub to enable, as kind/author/name or kind/stage/author/name."""

    def __init__(self, folder: Path, *, hub: Sequence[str], local: Path | None) -> None:
        self._root = find_crowdsec()
        self._folder = folder
        etc = folder / "etc"
        etc.mkdir(parents=True)
        for name in ("data", "log", "parsers", "scenarios", "collections", "postoverflows", "notifications", "plugins"):
            (folder / "data" if name in {"data"} else etc / name).mkdir(parents=True, exist_ok=True)
        (folder / "hub").symlink_to(self._root / "usr/share/crowdsec/hub")
        shutil.copytree(self._root / "etc/crowdsec/patterns", etc / "patterns")
        for item in hub:
            *kind, _, name = item.split("/")
            place = etc.joinpath(*kind, f"{name}.yaml")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(folder / "hub" / f"{item}.yaml")
        if local is not None:
            for file in [*local.glob("parsers/*/*.yaml"), *local.glob("scenarios/*.yaml")]:
                place = etc / file.relative_to(local)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)
        (etc / "simulation.yaml").write_text("simulation: false\n")
        shutil.copy(self._root / "etc/crowdsec/profiles.yaml", etc / "profiles.yaml")
        (etc / "console.yaml").write_text("")
        (etc / "acquis.yaml").write_text("")
        port = free_port()
        (etc / "credentials.yaml").write_text(f"url: http://127.0.0.1:{port}/\nlogin: test\npassword: test\n")
        (etc / "config.yaml").write_text(_config(folder, port))
        self._run("cscli", "machines", "add", "test", "--password", "test", "-f", str(etc / "added.yaml"), "--force")
        self._port = port
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Crowdsec:
        """Run the local API, where decisions are kept."""
        with (self._folder / "api.log").open("wb") as log:
            self._server = subprocess.Popen(self._command("crowdsec", "-no-cs"), stdout=log, stderr=log)
        deadline_s = time.monotonic() + LONG_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return self
            if self._server.poll() is not None or time.monotonic() > deadline_s:
                self.__exit__()
                raise AssertionError(f"no local API: {(self._folder / 'api.log').read_text()[-1000:]}")
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait(LONG_S)

    def read(self, eve: Path, *, kind: str) -> str:
        """Read a file of alerts to its end, as lines of this type; return what was logged."""
        ran = self._run("crowdsec", "-no-api", "-dsn", f"file://{eve}", "-type", kind)
        return ran.stdout + ran.stderr

    def check(self, acquisition: str) -> str:
        """Let it look at its whole configuration with this acquisition; return what was logged. Fails where it does."""
        (self._folder / "etc/acquis.yaml").write_text(acquisition)
        ran = self._run("crowdsec", "-t")
        return ran.stdout + ran.stderr

    def decisions(self) -> list[tuple[str, str, str]]:
        """Return (kind, address, scenario) of what was decided."""
        told = json.loads(self._run("cscli", "decisions", "list", "-o", "json").stdout or "null") or []
        return [(each["type"], each["value"], each["scenario"]) for alert in told for each in alert["decisions"] or []]

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [str(self._root / "usr/bin" / program), "-c", str(self._folder / "etc/config.yaml"), *arguments]

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self._command(program, *arguments)
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG_S, cwd=self._folder)
        if ran.returncode:
            raise AssertionError(f"{program} {arguments}: {ran.stdout}{ran.stderr}")
        return ran


def _config(folder: Path, port: int) -> str:
    etc, data = folder / "etc", folder / "data"
    return f"""\
common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: {folder}}}
config_paths:
  config_dir: {etc}/
  data_dir: {data}/
  simulation_path: {etc}/simulation.yaml
  hub_dir: {folder}/hub/
  index_path: {folder}/hub/.index.json
  notification_dir: {etc}/notifications/
  plugin_dir: {etc}/plugins/
crowdsec_service: {{acquisition_path: {etc}/acquis.yaml, parser_routines: 1}}
cscli: {{output: human}}
db_config: {{log_level: info, type: sqlite, db_path: {data}/crowdsec.db, use_wal: true}}
api:
  client: {{insecure_skip_verify: false, credentials_path: {etc}/credentials.yaml}}
  server:
    log_level: info
    listen_uri: 127.0.0.1:{port}
    profiles_path: {etc}/profiles.yaml
    console_path: {etc}/console.yaml
prometheus: {{enabled: false}}
"""

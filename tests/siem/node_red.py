"""A Node-RED of its own for one test: found on PATH, else installed by npm under .cache (some 120 MB, once)."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import time
from pathlib import Path

from tests.ports import free_port

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "node-red"
WANTED = "node-red@4"  # 5 wants Node.js 22
LONG_S = 300


class NoNodeRed(Exception):
    """There is no Node-RED here and npm cannot fetch one; the text says why."""


@functools.cache
def find_node_red() -> list[str]:
    """Return the command that runs it. Raises NoNodeRed."""
    if (program := shutil.which("node-red")) is not None:
        return [program]
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NoNodeRed("no node-red on PATH, and no node and npm to fetch one with")
    red = CACHE / "node_modules" / "node-red" / "red.js"
    if not (CACHE / "complete").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-audit", "--no-fund", "--omit=optional", "--loglevel=error")
        command = [npm, "install", *quiet, "--prefix", str(CACHE), WANTED]
        try:
            fetched = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG_S)
        except subprocess.TimeoutExpired:
            raise NoNodeRed(f"npm did not install {WANTED} in {LONG_S} s") from None
        if fetched.returncode or not red.exists():
            raise NoNodeRed(f"npm cannot install {WANTED}: {fetched.stderr.strip()[-200:]}")
        (CACHE / "complete").touch()
    return [node, str(red)]


class NodeRed:
    """Runs one flow while the block lasts, without its editor."""

    def __init__(self, folder: Path, flow: list[dict[str, object]]) -> None:
        folder.mkdir()
        self._folder = folder
        (folder / "flow.json").write_text(json.dumps(flow))
        quiet = {"httpAdminRoot": False, "httpNodeRoot": False, "flowFile": "flow.json", "uiHost": "127.0.0.1"}
        (folder / "settings.js").write_text(f"module.exports = {json.dumps(quiet)};\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeRed:
        command = [*find_node_red(), "-u", str(self._folder), "-s", str(self._folder / "settings.js")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen([*command, "-p", str(free_port())], stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def until_said(self, text: str) -> None:
        """Return when its log holds this."""
        deadline_s = time.monotonic() + LONG_S
        while text not in self.log:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline_s, self.log
            time.sleep(0.1)

"""Where things are kept: rights of the state folder, room on the disks."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.checks.patient import Patient
from agent.config import AgentConfig
from contracts.findings import Finding, fail, ok, warn
from contracts.terminal import printable

SERVICE_USER: Final = "penstock"
LEAST_BYTES: Final = 64 << 20  # below, the databases cannot be kept up for long
STATE_BYTES: Final = 64 << 20  # bundles, incidents and their write-ahead logs, generously


def state_dir(patient: Patient) -> Iterator[Finding]:
    """Look whether the state folder is there, ours, and closed to others."""
    if patient.config is None:
        return
    folder = patient.config.gateway.state_dir
    shown = printable(str(folder))
    try:
        facts = folder.stat()
    except OSError as exc:
        remedy = f"sudo install -d -m 0750 -o {SERVICE_USER} -g {SERVICE_USER} {shown}"
        yield fail("state", f"{shown}: {exc.strerror}", remedy)
        return
    if not stat.S_ISDIR(facts.st_mode):
        yield fail("state", f"{shown}: is no folder", "gateway.state_dir wants one")
    elif facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield fail("state", f"{shown}: mode {stat.S_IMODE(facts.st_mode):04o}, others may write", f"chmod go-w {shown}")
    elif (owner := _wanted_owner()) is not None and facts.st_uid != owner.pw_uid:
        seen = f"{shown}: belongs to user {facts.st_uid}, the service runs as {owner.pw_name}"
        yield fail("state", seen, f"sudo chown -R {owner.pw_name}:{owner.pw_name} {shown}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fail("state", f"{shown}: this user may not write there", f"sudo penstock doctor, or chown {shown}")
    elif facts.st_mode & stat.S_IROTH:
        yield warn("state", f"{shown}: everybody may look into it; it names devices", f"chmod o-rx {shown}")
    else:
        yield ok("state", f"{shown}: mode {stat.S_IMODE(facts.st_mode):04o}")


def disk(patient: Patient) -> Iterator[Finding]:
    """Look whether each disk has room for what the settings allow to be kept on it."""
    if patient.config is None:
        return
    wanted: dict[int, tuple[Path, int]] = {}
    for folder, octets in _keeps(patient.config):
        there = next((each for each in (folder, *folder.parents) if each.exists()), Path("/"))
        device = there.stat().st_dev
        first, total = wanted.get(device, (there, 0))
        wanted[device] = first, total + octets
    for folder, octets in wanted.values():
        free = shutil.disk_usage(folder).free
        seen = f"{printable(str(folder))}: {free / 2**20:,.0f} MiB free, the settings allow {octets / 2**20:,.0f}"
        remedy = "make room, or lower outbox.max_bytes, eve.rotate_bytes and eve.keep_files"
        if free < LEAST_BYTES:
            yield fail("disk", seen, remedy)
        elif free < octets:
            yield warn("disk", seen, remedy)
        else:
            yield ok("disk", seen)


def _keeps(config: AgentConfig) -> Iterator[tuple[Path, int]]:
    yield config.gateway.state_dir, STATE_BYTES
    if config.mqtt.url is not None:
        yield config.outbox_path.parent, 2 * config.outbox.max_bytes  # texts, and pages around them
    if config.eve.path is not None and config.eve.rotate_bytes:
        yield config.eve.path.parent, config.eve.rotate_bytes * (config.eve.keep_files + 1)


def _wanted_owner() -> pwd.struct_passwd | None:
    """Return the service's user where root asks for it; a person who tries something is the owner of what is theirs."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None

"""Throw-away roots: this machine's files under overlays that vanish with the test.

They live in a mount namespace of their own; nothing outside is written. Whoever runs there sees the sources at /src and
a wheelhouse at /wheels.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEMORY = "mount -t tmpfs -o size=3g none {folder}\n"
OVERLAY = """
mkdir {room} {room}/upper {room}/work {root}
mount -t overlay overlay -o lowerdir=/,upperdir={room}/upper,workdir={room}/work {root}
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
mount -t sysfs -o ro sys {root}/sys
mount -t tmpfs none {root}/run
mkdir -p {root}/src {root}/wheels
mount --bind -o ro {source} {root}/src
mount --bind -o ro {wheels} {root}/wheels
for each in {homes}; do chmod a+x {root}$each; done
"""
# An interpreter in somebody's home is none that a service's user could run.
HOMES = " ".join(str(each) for each in Path(sys.base_prefix).resolve().parents if str(each) != "/")


def in_a_throw_away_root(
    folder: Path, script: str, *, wheels: Path = ROOT / "docs"
) -> subprocess.CompletedProcess[str]:
    """Run a script of sh as root of an overlay over this machine."""
    (folder.parent / "script.sh").write_text(script)
    whole = f"cp {folder.parent}/script.sh {folder}/root/script.sh\nexec chroot {folder}/root /bin/sh /script.sh"
    return beside_throw_away_roots(folder, whole, names=["root"], wheels=wheels)


def beside_throw_away_roots(
    folder: Path, script: str, *, names: Sequence[str], wheels: Path, with_network: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a script of sh that sees roots by name in a folder; without network they share a loopback of their own."""
    begin = ["set -e", MEMORY.format(folder=folder)]
    for name in names:
        room, root = folder / f"{name}.room", folder / name
        begin.append(OVERLAY.format(room=room, root=root, source=ROOT, wheels=wheels, homes=HOMES))
    options = [] if with_network else ["--net"]
    run = subprocess.run(
        ["unshare", "--mount", "--pid", *options, "--fork", "sh", "-c", "\n".join([*begin, script])],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    if "mount:" in run.stderr:
        pytest.skip(f"no overlay can be mounted here: {run.stderr.strip().splitlines()[0]}")
    return run

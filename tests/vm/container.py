"""The same Debian and the same script at native speed: systemd as PID 1 of a container, for trying things out.

Minutes instead of an hour where there is no KVM. What it shares with this machine is the kernel, so what is asked of
the kernel (clock, offloads, modules) is asked of this one. Its network is a pair of virtual wires in a namespace of its
own, its disk the virtual machine's, read only, under a layer of memory.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.vm.machine import CannotRun, debian, need

UNIT: Final = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'exec /bin/sh /mnt/script.sh >/said/text 2>&1'
ExecStopPost=/bin/systemctl poweroff --force
"""
BEGIN: Final = """
set -e
mount -t tmpfs -o size=4g none {room}
mkdir {room}/disk {room}/upper {room}/work {room}/root
mount -o loop,ro {disk} {room}/disk
mount -t overlay overlay -o lowerdir={room}/disk,upperdir={room}/upper,workdir={room}/work {room}/root
cat >{room}/root/etc/systemd/system/vm.service
exec systemd-nspawn --quiet --register=no --keep-unit --boot --directory={room}/root --console=pipe \
    --bind-ro={payload}:/mnt --bind={said}:/said --network-veth-extra=outside:eth0 \
    --capability=CAP_NET_ADMIN,CAP_NET_RAW
"""


def boot(work: Path, *, payload: Path, within_s: float) -> str:
    """Boot, run the payload's script.sh as root, stop, and return what it printed. Raises CannotRun."""
    need("systemd-nspawn", "unshare")
    room, said = work / f"{payload.name}.room", work / f"{payload.name}.container"
    for folder in (room, said):
        folder.mkdir(exist_ok=True)
    (said / "text").unlink(missing_ok=True)
    begin = BEGIN.format(room=room, disk=debian(work), payload=payload, said=said)
    command = ["unshare", "--mount", "--net", "sh", "-c", begin]
    try:
        run = subprocess.run(command, input=UNIT, capture_output=True, text=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"not done after {within_s:,.0f} s; it said: {_read(said)[-2000:]}") from None
    if not _read(said):
        raise CannotRun(f"the container did not start: {(run.stdout + run.stderr)[-600:]}")
    return _read(said)


def _read(said: Path) -> str:
    text = said / "text"
    return text.read_text(errors="replace") if text.exists() else ""

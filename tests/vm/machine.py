"""A clean Debian with systemd as PID 1, in QEMU without KVM; it runs one script and says what it saw on a serial line.

The trap is time. An emulated processor on a busy host may get a tenth of a second per second, and then every timeout
and watchdog in the guest fires for reasons that are not the guest's. So the guest's clock counts its own instructions
(`-icount`): it runs at the same speed by its own clock wherever it is emulated, and waiting costs nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SUITE: Final = "bookworm"
# What a minimal Debian needs to boot and to hold a service; python3-venv is for install.sh alone, mosquitto and openssl
# for the aggregator. No procps: a reload must not want it; no compiler: every way installs from wheels.
INCLUDED: Final = (
    "systemd", "systemd-sysv", "udev", "init-system-helpers", "iproute2", "ethtool", "python3", "python3-venv",
    "linux-image-cloud-amd64", "libstdc++6", "mosquitto", "openssl",
)  # fmt: skip
INSTRUCTION_NS_SHIFT: Final = 1  # 2 ns an instruction: a guest of 500 million instructions a second
MEMORY_MIB: Final = 1500
DISK: Final = "3G"
UNIT: Final = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'mount -o ro /dev/vdb /mnt && exec /bin/sh /mnt/script.sh >/dev/ttyS1 2>&1'
ExecStopPost=/bin/systemctl poweroff --force
"""
NETWORK: Final = "[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"


class CannotRun(Exception):
    """A tool is missing or failed; the message names it."""


def need(*programs: str) -> None:
    """Raise CannotRun where a program is absent, or root's rights are."""
    if os.geteuid() != 0:
        raise CannotRun("debootstrap wants root: sudo make vm")
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        line = "sudo apt-get install qemu-system-x86 debootstrap e2fsprogs dpkg"
        raise CannotRun(f"missing: {', '.join(absent)}; on Debian: {line}")


def call(command: Sequence[str], *, within_s: float) -> None:
    """Run a program to its end. Raises CannotRun with the last it said."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    if run.returncode != 0:
        raise CannotRun(f"{command[0]} ended with {run.returncode}: {(run.stdout + run.stderr)[-600:]}")


def debian(work: Path) -> Path:
    """Return the disk of a Debian that was never booted, made once from the archive, and put its kernel beside it."""
    disk, root = work / "debian.img", work / "root"
    if disk.exists():
        return disk
    shutil.rmtree(root, ignore_errors=True)
    call(["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", SUITE, str(root)], within_s=3600)
    furnish(root)
    shutil.copy(next(root.glob("boot/vmlinuz-*")), work / "vmlinuz")
    shutil.copy(next(root.glob("boot/initrd.img-*")), work / "initrd.img")
    release = (root / "etc/debian_version").read_text().strip()
    kernel = next(root.glob("boot/vmlinuz-*")).name.removeprefix("vmlinuz-")
    (work / "debian.txt").write_text(f"Debian {release}, Linux {kernel}")
    image(root, work / "debian.new", size=DISK)
    (work / "debian.new").rename(disk)
    shutil.rmtree(root)
    return disk


def furnish(root: Path) -> None:
    """Give a Debian its name, its network, and the unit that runs the script."""
    for path in root.glob("var/cache/apt/archives/*.deb"):
        path.unlink()
    (root / "etc/hostname").write_text("gateway\n")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 0\n")
    (root / "etc/systemd/network/eth0.network").write_text(NETWORK)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    for unit in ("systemd-networkd.service", "vm.service"):
        (wants / unit).unlink(missing_ok=True)
    (wants / "mosquitto.service").unlink(missing_ok=True)  # a gateway has none; the aggregator's life starts it
    (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
    (wants / "vm.service").symlink_to("/etc/systemd/system/vm.service")
    (root / "etc/systemd/system/vm.service").write_text(UNIT)


def image(folder: Path, file: Path, *, size: str) -> None:
    """Write a file system that holds what a folder holds."""
    file.unlink(missing_ok=True)
    call(["mke2fs", "-q", "-t", "ext4", "-d", str(folder), str(file), size], within_s=600)


def boot(work: Path, *, payload: Path, within_s: float) -> str:
    """Boot, run the payload's script.sh as root, power off, and return what it printed.

    Raises CannotRun where the machine does not end in time; what it had printed by then is in the message.
    """
    disk, extra, said = debian(work), work / f"{payload.name}.img", work / f"{payload.name}.said"
    octets = sum(path.stat().st_size for path in payload.rglob("*") if path.is_file())
    image(payload, extra, size=f"{octets // 900_000 + 32}M")
    said.unlink(missing_ok=True)
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-m", str(MEMORY_MIB), "-display", "none",
        "-no-reboot", "-icount", f"shift={INSTRUCTION_NS_SHIFT},sleep=off", "-rtc", "clock=vm",
        "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,snapshot=on",
        "-drive", f"file={extra},format=raw,if=virtio,readonly=on",
        "-nic", "user,model=virtio-net-pci", "-kernel", str(work / "vmlinuz"),
        "-initrd", str(work / "initrd.img"),
        "-append", "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 panic=-1",
        "-serial", f"file:{work / payload.name}.console", "-serial", f"file:{said}",
    ]  # fmt: skip
    try:
        call(command, within_s=within_s)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"not done after {within_s:,.0f} s; it said: {said.read_text()[-2000:]}") from None
    finally:
        extra.unlink(missing_ok=True)
    return said.read_text(errors="replace")

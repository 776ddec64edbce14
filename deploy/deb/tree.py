"""What stands in the package: its files below the root, and its control files.

The environment stands in /opt/penstock, as deploy/install.sh makes it, so that units, pages and habits are the same; it
is no file of the package, since it is made on the target. Units stand where packages have them, in /usr/lib.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.deb.cross import MINOR

SCRIPTS: Final = Path(__file__).with_name("scripts")
UNIT_FOLDER: Final = "usr/lib/systemd/system"
SHARE: Final = "usr/share/penstock"
DOC: Final = "usr/share/doc/penstock"
WHEELS: Final = "usr/lib/penstock/wheels"
AGGREGATOR: Final = "penstock-aggregator.service"  # of a server, which no gateway is
CONFFILE: Final = "etc/penstock/agent.toml"
INTERFACES: Final = re.compile(r"^interfaces = (.*)$", re.MULTILINE)
NEXT_MINOR: Final = f"{MINOR.split('.')[0]}.{int(MINOR.split('.')[1]) + 1}"


def plant(root: Path, *, source: Path, wheels: Path, changelog: str) -> None:
    """Write the package's files below a folder that stands for the root of the target."""
    put(wheels, root / WHEELS)
    for unit in sorted((source / "systemd").glob("penstock*.*")):
        if unit.suffix in {".service", ".timer", ".path"} and unit.name != AGGREGATOR:
            put(unit, root / UNIT_FOLDER / unit.name)
    put(source / "systemd/sysusers.d/penstock.conf", root / "usr/lib/sysusers.d/penstock.conf")
    put(source / "systemd/tmpfiles.d/penstock.conf", root / "usr/lib/tmpfiles.d/penstock.conf")
    put(source / "systemd/penstock.service.d", root / SHARE / "drop-ins")
    for name in ("tensorrt_worker.py", "tensorrt_build.py"):
        put(source / "detection" / name, root / SHARE / "tensorrt" / name)
    for page in ("service.md", "tensorrt.md", "federation.md"):
        put(source / "docs" / page, root / SHARE / page)
    (root / CONFFILE).parent.mkdir(parents=True)
    (root / CONFFILE).write_text(configuration((source / "deploy/agent.toml").read_text()))
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/penstock").symlink_to("/opt/penstock/current/bin/penstock")
    put(source / "LICENSE", root / DOC / "copyright")
    put(source / "CHANGELOG.md", root / DOC / "CHANGELOG.md")
    (root / DOC / "changelog.gz").write_bytes(gzip.compress(changelog.encode(), mtime=0))
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def changelog(*, version: str, maintainer: str, epoch_s: int) -> str:
    """Return the one entry that dpkg's tools want to read; what changed stands in CHANGELOG.md."""
    date = email.utils.formatdate(epoch_s)
    return (
        f"penstock ({version}) unstable; urgency=medium\n\n  * What changed stands in CHANGELOG.md.\n\n"
        f" -- {maintainer}  {date}\n"
    )


def put(this: Path, there: Path) -> None:
    """Copy a file or a folder under a name, its folder made."""
    there.parent.mkdir(parents=True, exist_ok=True)
    if this.is_dir():
        shutil.copytree(this, there)
    else:
        shutil.copyfile(this, there)


def configuration(sample: str) -> str:
    """Return the sample settings as the package's configuration file, which is the same on every machine.

    Which interface there is differs, so the first installation writes that beside it; dpkg would take a file that a
    script changed for one that a person changed, and ask at every upgrade.
    """
    note = "# The first installation set it in conf.d/10-gateway.toml, which wins over this file.\n#interfaces = "
    changed, count = INTERFACES.subn(note + r"\1", sample)
    if count != 1:
        raise ValueError(f"the sample configuration has {count} lines 'interfaces = ', wanted 1")
    return changed


def control(root: Path, *, version: str, arch: str, glibc: str, maintainer: str) -> None:
    """Write the control files of the package whose files stand below a folder."""
    folder = root / "DEBIAN"
    folder.mkdir()
    size_kib = sum(-(-path.stat().st_size // 1024) for path in files_of(root))
    fields = {
        "Package": "penstock",
        "Version": version,
        "Architecture": arch,
        "Maintainer": maintainer,
        "Installed-Size": str(size_kib),
        "Depends": f"python3 (>= {MINOR}~), python3 (<< {NEXT_MINOR}), libc6 (>= {glibc}), libstdc++6, libgcc-s1",
        "Recommends": "ethtool",
        "Section": "net",
        "Priority": "optional",
        "Description": "intrusion detection for IoT gateways\n"
        " Watches the flows through a gateway and says, within a second, which device is\n"
        " under attack or has been taken over. Alerts leave as EVE, ECS, OCSF or CEF, by\n"
        " MQTT, syslog or file; no packet leaves the box.\n"
        " .\n"
        " The package carries its Python packages as wheels and makes an environment of\n"
        " its own of them in /opt/penstock.",
    }
    (folder / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    (folder / "conffiles").write_text(f"/{CONFFILE}\n")
    sums = [f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
            for path in files_of(root) if path.relative_to(root) != Path(CONFFILE)]  # fmt: skip
    (folder / "md5sums").write_text("".join(sums))
    for name in ("preinst", "postinst", "prerm", "postrm"):
        shutil.copyfile(SCRIPTS / name, folder / name)
    for path in folder.iterdir():
        path.chmod(0o755 if path.name in {"preinst", "postinst", "prerm", "postrm"} else 0o644)
    folder.chmod(0o755)


def files_of(root: Path) -> Iterator[Path]:
    """Give the package's regular files, in order of their names, without its control files."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.relative_to(root).parts[0] != "DEBIAN":
            yield path

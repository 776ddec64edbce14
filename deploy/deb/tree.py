"""What stands in a package: its files below the root, and its control files; role.py says in which what.

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
from deploy.deb.role import GATEWAY, Role

SCRIPTS: Final = Path(__file__).with_name("scripts")
CARRIES: Final = (
    " .\n The package carries its Python packages as wheels and makes an environment of\n"
    " its own of them in /opt/penstock."
)
INTERFACES: Final = re.compile(r"^interfaces = (.*)$", re.MULTILINE)
NEXT_MINOR: Final = f"{MINOR.split('.')[0]}.{int(MINOR.split('.')[1]) + 1}"


def plant(root: Path, role: Role, *, source: Path, wheels: Path, changelog: str) -> None:
    """Write a package's files below a folder that stands for the root of the target."""
    put(wheels, root / role.wheels)
    for unit in role.units(source):
        put(unit, root / role.unit_folder / unit.name)
    for folder in ("sysusers.d", "tmpfiles.d"):
        put(source / "systemd" / folder / f"{role.package}.conf", root / "usr/lib" / folder / f"{role.package}.conf")
    for line in role.shared:
        this, _, there = line.partition(" -> ")
        put(source / this, root / role.share / there)
    settings = (source / "deploy" / role.settings).read_text()
    (root / role.conffile).parent.mkdir(parents=True)
    (root / role.conffile).write_text(configuration(settings) if role is GATEWAY else settings)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin" / role.package).symlink_to(f"/opt/penstock/current/bin/{role.package}")
    put(source / "LICENSE", root / role.doc / "copyright")
    put(source / "CHANGELOG.md", root / role.doc / "CHANGELOG.md")
    (root / role.doc / "changelog.gz").write_bytes(gzip.compress(changelog.encode(), mtime=0))
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def changelog(role: Role, *, version: str, maintainer: str, epoch_s: int) -> str:
    """Return the one entry that dpkg's tools want to read; what changed stands in CHANGELOG.md."""
    date = email.utils.formatdate(epoch_s)
    return (
        f"{role.package} ({version}) unstable; urgency=medium\n\n  * What changed stands in CHANGELOG.md.\n\n"
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


def control(root: Path, role: Role, *, version: str, arch: str, glibc: str, maintainer: str) -> None:
    """Write the control files of the package whose files stand below a folder."""
    folder = root / "DEBIAN"
    folder.mkdir()
    size_kib = sum(-(-path.stat().st_size // 1024) for path in files_of(root))
    fields = {
        "Package": role.package,
        "Version": version,
        "Architecture": arch,
        "Maintainer": maintainer,
        "Installed-Size": str(size_kib),
        "Depends": f"python3 (>= {MINOR}~), python3 (<< {NEXT_MINOR}), libc6 (>= {glibc}), libstdc++6, libgcc-s1",
        **dict(role.relations),
        "Conflicts": role.other,
        "Section": "net",
        "Priority": "optional",
        "Description": role.description + CARRIES,
    }
    (folder / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    (folder / "conffiles").write_text(f"/{role.conffile}\n")
    sums = [f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
            for path in files_of(root) if path.relative_to(root) != Path(role.conffile)]  # fmt: skip
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

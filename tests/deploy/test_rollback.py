"""A new version that does not start: install.sh brings back, file by file, what was there before it.

What is installed is a stand-in of a few lines, as a wheel made here; systemctl is one too, which fails where it is told
to. The real ones are in the slow life beside this, and in the virtual machine.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy.throw_away import in_a_throw_away_root

PROGRAM = """
import sys

def main():
    if sys.argv[1:2] == ["--version"]:
        print("penstock 0.0.1")
    elif "--json" in sys.argv:
        print('{"config": {"federation": {"enabled": true}}}')
"""
SYSTEMCTL = """#!/bin/sh
# Fails to start anything while /refuses is there, once; notes what is enabled.
case "$*" in
--version) echo 'systemd 252 (252.1)' ;;
*is-active*) exit 0 ;;
enable*) for each in "$@"; do echo "$each"; done | grep penstock >>/enabled ;;
restart*) [ ! -e /refuses ] || { rm /refuses; echo refused; exit 1; } ;;
esac
"""
SCRIPT = """
mkdir -p /run/systemd/system
cat >/usr/local/sbin/systemctl <<'END'
SYSTEMCTL
END
chmod 0755 /usr/local/sbin/systemctl
PATH=/usr/local/sbin:$PATH; export PATH
units=/usr/local/lib/systemd/system
install() {
    sh /src/deploy/install.sh --interface lo --extra none --offloads keep --python PYTHON --wheelhouse /wheels
}
seen() {
    find /usr/local/lib /usr/local/bin /etc/penstock -type d -printf '%p %m %U\\n' | sort
    find /usr/local/lib /usr/local/bin /etc/penstock /enabled ! -type d -printf '%p %y %m %U %T@ %l\\n' | sort
    find $units /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d -type f -exec sha256sum {} + | sort
    readlink /opt/penstock/current
    ls /opt/penstock
}
install; echo "install $?"
# As another version, and another board, left them:
mkdir -p $units/penstock.service.d
echo '[Service]' >$units/penstock.service.d/10-jetson-nano.conf
echo '[Unit]' >$units/penstock.service.d/20-mine.conf
echo '# before' >>$units/penstock.service
echo '# before' >>/usr/local/lib/sysusers.d/penstock.conf
rm $units/penstock-finetune.path
echo penstock.service >/enabled
touch -d '2020-01-01' $units/* $units/penstock.service.d/* /usr/local/lib/sysusers.d/penstock.conf
seen >/before
touch /refuses
install; echo "upgrade $?"
seen >/after
diff /before /after && echo same
install; echo "again $?"
ls $units/penstock-finetune.path
sort -u /enabled
"""


def wheel(folder: Path) -> None:
    """Write a wheel with a program named penstock and the files that the installer copies."""
    files = {
        "standin.py": PROGRAM,
        "detection/__init__.py": "",
        "detection/tensorrt_worker.py": "",
        "detection/tensorrt_build.py": "",
        "penstock-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: penstock\nVersion: 0.0.1\n",
        "penstock-0.0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "penstock-0.0.1.dist-info/entry_points.txt": "[console_scripts]\npenstock = standin:main\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in files.items())
    files["penstock-0.0.1.dist-info/RECORD"] = f"{record}penstock-0.0.1.dist-info/RECORD,,\n"
    with zipfile.ZipFile(folder / "penstock-0.0.1-py3-none-any.whl", "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.mark.needs_root
def test_what_was_there_comes_back_where_the_new_version_does_not_start(folder: Path, tmp_path: Path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels)
    script = SCRIPT.replace("PYTHON", sys.executable).replace("SYSTEMCTL", SYSTEMCTL.strip())

    run = in_a_throw_away_root(folder, script, wheels=wheels)

    said = run.stdout
    assert "install 0\n" in said, said + run.stderr
    assert "upgrade 71\n" in said, said + run.stderr
    assert "the new version does not start" in run.stderr
    assert "upgrade 71\nsame\n" in said, said
    assert "again 0\n/usr/local/lib/systemd/system/penstock-finetune.path\n" in said
    assert said.endswith("penstock-finetune.path\npenstock-finetune.timer\npenstock.service\n")

"""install.sh --role aggregator in a throw-away root: what is there then, what is not, and the way back."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.deploy.throw_away import in_a_throw_away_root

ROOT = Path(__file__).resolve().parents[2]
PURGED = re.search(r'^PURGED="([^"]*)"', (ROOT / "deploy" / "uninstall.sh").read_text(), re.MULTILINE).group(1).split()
INSTALL = f"sh /src/deploy/install.sh --role aggregator --python {sys.executable} --wheelhouse /wheels"
GATEWAY = f"sh /src/deploy/install.sh --interface lo --python {sys.executable} --wheelhouse /wheels"
LIFE = f"""
list() {{ find / -xdev \\( -path /tmp -o -path /root -o -path /var/cache -o -path /src \\) -prune -o -print | sort; }}
list >/before
{INSTALL} >/said 2>&1; echo "install $?"
list >/between
stat -c '%a %U:%G %n' /etc/penstock/aggregator.toml /etc/penstock/aggregator /etc/penstock/aggregator/* \\
    /var/lib/penstock-aggregator
cmp /src/deploy/aggregator.toml /etc/penstock/aggregator.toml && echo "the sample"
systemd-analyze verify --man=no /usr/local/lib/systemd/system/penstock-aggregator.service; echo "verify $?"
comm -13 /before /between | grep -v '^/opt/penstock/' | sed 's/^/NEW /'
ls /opt/penstock/current/share/penstock | sed 's/^/SHARE /'
ls /etc/systemd/system/multi-user.target.wants | grep -c penstock
penstock-aggregator run 2>&1; echo "first start $?"
rm /etc/penstock/aggregator.toml
penstock-aggregator run 2>&1; echo "without settings $?"
cp /src/deploy/aggregator.toml /etc/penstock/aggregator.toml
echo '# mine' >>/etc/penstock/aggregator.toml
cp /etc/penstock/aggregator/calls.pem /calls
rm /etc/penstock/aggregator/bundles.pem
echo kept >/var/lib/penstock-aggregator/kept
first=$(readlink /opt/penstock/current)
{INSTALL} >/dev/null 2>&1; echo "upgrade $?"
[ "$first" != "$(readlink /opt/penstock/current)" ] && echo "another environment"
ls -d /opt/penstock/env-* | wc -l
tail -n 1 /etc/penstock/aggregator.toml
cmp /calls /etc/penstock/aggregator/calls.pem && echo "the same key"
ls /etc/penstock/aggregator/bundles.pem 2>/dev/null || echo "none made anew"
second=$(readlink /opt/penstock/current)
sh /src/deploy/install.sh --role aggregator --python {sys.executable} --wheelhouse /src/docs 2>/dev/null >&2
echo "broken upgrade $?"
[ "$second" = "$(readlink /opt/penstock/current)" ] && echo "the one before"
{GATEWAY} 2>&1; echo "gateway $?"
sh /opt/penstock/current/share/penstock/uninstall.sh; echo "remove $?"
ls /opt/penstock /usr/local/lib/systemd/system/penstock-aggregator.service /usr/local/bin/penstock-aggregator 2>&1 |
    grep -c 'No such'
cat /var/lib/penstock-aggregator/kept
ls /etc/penstock/aggregator/calls.pem
sh /src/deploy/uninstall.sh --purge; echo "purge $?"
getent passwd penstock-aggregator; getent group penstock-aggregator
list >/after
diff /before /after | grep -v '^[<>] /\\(before\\|between\\|after\\|said\\|calls\\|script.sh\\)' | grep '^>'
echo end
"""


@pytest.mark.needs_root
def test_python_3_10_is_too_old_for_it_and_named(folder: Path):
    script = """
    printf '#!/bin/sh\\ncase "$*" in *print*) echo 3.10 ;; *"3, 11"*) exit 1 ;; esac\\n' >/usr/local/bin/python3.10
    chmod +x /usr/local/bin/python3.10
    sh /src/deploy/install.sh --role aggregator --python python3.10; echo "code $?"
    ls -d /opt/penstock /etc/penstock 2>/dev/null; echo end
    """

    run = in_a_throw_away_root(folder, script)

    assert run.stdout == "code 69\nend\n", run.stderr
    assert "python3.10 is Python 3.10, wanted 3.11 or later" in run.stderr


@pytest.mark.needs_root
@pytest.mark.slow
def test_the_whole_life_and_nothing_of_a_gateway_comes_with_it(folder: Path, wheelhouse: Path):
    run = in_a_throw_away_root(folder, LIFE, wheels=wheelhouse)

    said = run.stdout
    assert "install 0\n" in said, said + run.stderr
    for line in (
        "640 root:penstock-aggregator /etc/penstock/aggregator.toml",
        "750 root:penstock-aggregator /etc/penstock/aggregator",
        "600 penstock-aggregator:penstock-aggregator /etc/penstock/aggregator/calls.pem",
        "600 penstock-aggregator:penstock-aggregator /etc/penstock/aggregator/bundles.pem",
        "644 root:root /etc/penstock/aggregator/calls.pem.pub",
        "700 penstock-aggregator:penstock-aggregator /var/lib/penstock-aggregator",
        "the sample",
    ):
        assert f"{line}\n" in said, said
    assert "verify 0\n" in said
    share = set(re.findall(r"^SHARE (.*)$", said, re.MULTILINE))
    assert share == {
        "aggregator.md", "aggregator.toml", "federation.md", "penstock.acl", "penstock.conf", "uninstall.sh",
    }  # fmt: skip
    assert "\n0\npenstock-aggregator: broker.ca: /etc/penstock/aggregator/ca.pem: No such file" in said  # not enabled
    assert "first start 78\n" in said
    assert (
        "penstock-aggregator: /etc/penstock/aggregator.toml: not there, wanted a copy of deploy/aggregator.toml" in said
    )
    assert "without settings 78\n" in said
    assert "upgrade 0\nanother environment\n1\n# mine\nthe same key\nnone made anew\n" in said
    assert "broken upgrade 71\nthe one before\n" in said
    assert "penstock: this machine is installed as aggregator" in said
    assert "gateway 71\nremove" not in said  # it says what is kept in between
    assert "gateway 71\npenstock: removed; kept: /etc/penstock, /var/lib/penstock-aggregator and the user" in said
    assert "remove 0\n3\nkept\n/etc/penstock/aggregator/calls.pem\n" in said
    # At the end nothing is left, nor a line of the user database, nor a file anywhere.
    assert said.endswith("purge 0\nend\n"), said[said.index("purge 0") :]
    # Nothing of a gateway came with it: no unit, user, folder or command of the agent.
    new = set(re.findall(r"^NEW (.*)$", run.stdout, re.MULTILINE))
    assert {path for path in new if not re.search(r"/sysusers|/tmpfiles|/systemd$|/systemd/system$", path)} - {
        "/before", "/between", "/said", "/opt/penstock", "/etc/penstock", "/etc/penstock/trust.d",
        "/etc/penstock/aggregator",
        "/etc/penstock/aggregator.toml", "/etc/penstock/aggregator/calls.pem", "/etc/penstock/aggregator/calls.pem.pub",
        "/etc/penstock/aggregator/bundles.pem", "/etc/penstock/aggregator/bundles.pem.pub",
        "/var/lib/penstock-aggregator", "/usr/local/bin/penstock-aggregator",
        "/usr/local/lib/systemd/system/penstock-aggregator.service",
    } == set(), run.stderr  # fmt: skip


@pytest.mark.needs_root
@pytest.mark.slow
def test_a_gateway_is_not_made_an_aggregator(folder: Path, wheelhouse: Path):
    run = in_a_throw_away_root(folder, f'{GATEWAY} >/dev/null 2>&1; {INSTALL}; echo "code $?"', wheels=wheelhouse)

    assert run.stdout.endswith("code 71\n"), run.stdout + run.stderr
    assert "this machine is installed as gateway, and one machine is one or the other" in run.stderr


def test_what_purge_removes_is_all_that_the_unit_makes():
    unit = (ROOT / "systemd" / "penstock-aggregator.service").read_text()
    made = {f"/var/lib/{name}" for name in re.findall(r"^StateDirectory=(\S+)$", unit, re.MULTILINE)}

    assert made == {"/var/lib/penstock-aggregator"}
    assert made <= set(PURGED)
    assert re.findall(r"^(?:Logs|Cache|Runtime|Configuration)Directory=", unit, re.MULTILINE) == []


def test_modes_that_the_installer_makes_are_those_that_tmpfiles_keeps():
    """`stat` of the installed files is held in the life above; here both places are held to each other."""
    text = (ROOT / "systemd" / "tmpfiles.d" / "penstock-aggregator.conf").read_text()
    kept = {
        path: (mode, user, group)
        for path, mode, user, group in re.findall(r"^[dz] (\S+) +(\d+) (\S+) (\S+)", text, re.M)
    }
    own = ("penstock-aggregator", "penstock-aggregator")

    assert kept["/etc/penstock/aggregator.toml"] == ("0640", "root", "penstock-aggregator")
    assert kept["/etc/penstock/aggregator"] == ("0750", "root", "penstock-aggregator")
    assert kept["/var/lib/penstock-aggregator"] == ("0700", *own)
    assert {kept[f"/etc/penstock/aggregator/{name}"] for name in ("calls.pem", "bundles.pem", "aggregator.key")} == {
        ("0600", *own)
    }

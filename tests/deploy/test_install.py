"""install.sh and uninstall.sh in a throw-away root: this machine's files under an overlay that vanishes with the test.

The environments are made for real, by pip from a wheelhouse that is built once (from the registry), so the whole life
is slow. The role aggregator has a file of its own beside this one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.throw_away import in_a_throw_away_root

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [ROOT / "deploy" / name for name in ("install.sh", "uninstall.sh")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path):
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck")

    run = subprocess.run([program, "-s", "sh", script], capture_output=True, text=True, timeout=120, check=False)

    assert run.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--extra", "tpu"], "--extra tpu, wanted cpu, gpu or none"),
        (["--offloads", "maybe"], "--offloads maybe, wanted off or keep"),
        (["--interface", "eth0; reboot"], "no name of an interface"),
        (["--wheelhouse", "/nonexistent"], "no such folder"),
        (["--constraints", "/nonexistent"], "no such file"),
        (["--python"], "--python wants a value"),
        (["--role", "router"], "--role router, wanted gateway or aggregator"),
        (["--role", "aggregator", "--interface", "eth0"], "--interface: an aggregator watches none"),
        (["--role", "aggregator", "--offloads", "off"], "--offloads: an aggregator watches no interface"),
        (["--role", "aggregator", "--extra", "gpu"], "--extra gpu, wanted none or cpu, or cpu,federate,postgres"),
        (["--frobnicate"], "unknown option --frobnicate"),
    ],
)
def test_what_cannot_be_asked_ends_with_64_before_anything_is_touched(arguments: list[str], said: str):
    run = subprocess.run(["sh", SCRIPTS[0], *arguments], capture_output=True, text=True, timeout=120, check=False)

    assert (run.returncode, said in run.stderr, run.stdout) == (64, True, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.needs_root
def test_without_root_both_end_with_77(script: Path):
    text = script.read_text()
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-s"]

    run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False, cwd="/")

    assert run.returncode == 77, run.stderr


@pytest.mark.needs_root
def test_what_is_missing_is_named_with_its_apt_line_and_nothing_is_touched(folder: Path):
    script = """
    rm -f /usr/bin/gcc /usr/bin/cc /usr/bin/useradd /usr/sbin/useradd /usr/bin/systemd-sysusers
    sh /src/deploy/install.sh --python PYTHON; echo "code $?"
    sh /src/deploy/install.sh --python /nonexistent/python3.11; echo "code $?"
    ls -d /opt/penstock /etc/penstock 2>/dev/null; echo end
    """.replace("PYTHON", sys.executable)

    run = in_a_throw_away_root(folder, script)

    assert run.stdout.split("\n")[:3] == ["code 69", "code 69", "end"], run.stdout + run.stderr
    first, second = run.stderr.splitlines()
    assert "a C compiler" in first
    assert "sudo apt-get install" in first
    assert " gcc" in first.partition("apt-get install")[2]
    assert "python3.11 python3.11-venv" in second


LIFE = """
list() { find / -xdev \\( -path /tmp -o -path /root -o -path /var/cache -o -path /src \\) -prune -o -print | sort; }
list >/before
sh /src/deploy/install.sh --interface lo --python PYTHON --wheelhouse /wheels; echo "install $?"
ls -l /opt/penstock /usr/local/bin/penstock
stat -c '%a %U:%G %n' /etc/penstock/agent.toml /var/lib/penstock /var/log/penstock
getent passwd penstock
grep -E '^(interfaces|path) = ' /etc/penstock/agent.toml
/usr/local/bin/penstock --version
systemd-analyze verify --man=no /usr/local/lib/systemd/system/penstock.service; echo "verify $?"
readlink /etc/systemd/system/multi-user.target.wants/penstock.service
echo '# mine' >>/etc/penstock/agent.toml
echo kept >/var/lib/penstock/kept
first=$(readlink /opt/penstock/current)
sh /src/deploy/install.sh --python PYTHON --wheelhouse /wheels; echo "upgrade $?"
[ "$first" != "$(readlink /opt/penstock/current)" ] && echo "another environment"
ls -d /opt/penstock/env-* | wc -l
tail -n 1 /etc/penstock/agent.toml
second=$(readlink /opt/penstock/current)
sh /src/deploy/install.sh --python PYTHON --wheelhouse /src/docs; echo "broken upgrade $?"
[ "$second" = "$(readlink /opt/penstock/current)" ] && /usr/local/bin/penstock --version
ls -d /opt/penstock/env-* | wc -l
sh /opt/penstock/current/share/penstock/uninstall.sh; echo "remove $?"
ls /opt/penstock /usr/local/lib/systemd/system/penstock.service 2>&1 | grep -c 'No such'
cat /var/lib/penstock/kept
sh /src/deploy/uninstall.sh --purge; echo "purge $?"
getent passwd penstock; getent group penstock
list >/after
diff /before /after | grep -v '^[<>] /\\(before\\|after\\|script.sh\\)' | grep '^>'
echo end
"""


@pytest.mark.needs_root
@pytest.mark.slow
def test_the_whole_life_install_upgrade_failed_upgrade_removal_purge(folder: Path, wheelhouse: Path):
    run = in_a_throw_away_root(folder, LIFE.replace("PYTHON", sys.executable), wheels=wheelhouse)

    said = run.stdout
    assert "install 0\n" in said, said + run.stderr
    assert "640 root:penstock /etc/penstock/agent.toml" in said
    assert "750 penstock:penstock /var/lib/penstock" in said
    assert 'interfaces = ["lo"]\npath = "/var/log/penstock/eve.json"' in said
    assert "verify 0" in said
    assert "/usr/local/lib/systemd/system/penstock.service" in said
    assert "upgrade 0\nanother environment\n1\n# mine\n" in said
    assert "broken upgrade 71\npenstock " in said
    assert "remove 0\n2\nkept\n" in said
    assert "purge 0\n" in said
    # Nothing is left, nor a line of the user database, nor a file anywhere.
    assert said.endswith("purge 0\nend\n"), said[said.index("purge 0") :]

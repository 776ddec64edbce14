"""Both packages in one throw-away root, by dpkg itself: what one role leaves behind is not the other's to purge."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.deb import __main__ as program
from deploy.deb.cross import MINOR
from deploy.deb.role import ROLES
from deploy.deb.tree import changelog, control, plant
from tests.deploy.throw_away import ROOT, in_a_throw_away_root

INSTALL = f"sh /src/deploy/install.sh --role aggregator --python {sys.executable} --wheelhouse /wheels"
LIFE = f"""
export DEBIAN_FRONTEND=noninteractive
list() {{
    find /etc /opt /usr /var \\( -path /var/lib/dpkg -o -path /var/cache -o -path /var/log \\) -prune -o -print | sort
}}
there() {{ for each; do [ -e "$each" ] && echo "there $each" || echo "gone $each"; done; }}
keys() {{ cat /etc/penstock/aggregator/*.pem /etc/penstock/aggregator/*.pub | md5sum; }}
list >/before
dpkg -i /wheels/penstock.deb >/said 2>&1; echo "gateway $?"
penstock check-config >/dev/null 2>&1; echo "check-config $?"
dpkg -r penstock >>/said 2>&1; echo "gateway removed $?"
there /opt/penstock /etc/penstock/agent.toml /etc/penstock/conf.d/10-gateway.toml
dpkg -i /wheels/penstock-aggregator.deb >>/said 2>&1; echo "aggregator $?"
stat -c '%a %U:%G %n' /etc/penstock/aggregator.toml /etc/penstock/aggregator /etc/penstock/aggregator/calls.pem \\
    /etc/penstock/aggregator/bundles.pem.pub /var/lib/penstock-aggregator
there /etc/systemd/system/multi-user.target.wants/penstock-aggregator.service
keys >/keys
dpkg -P penstock >>/said 2>&1; echo "gateway purged $?"
there /etc/penstock/agent.toml /etc/penstock/conf.d /var/lib/penstock /etc/penstock/aggregator.toml
getent passwd penstock || echo "no user penstock"
penstock-aggregator doctor --offline >/doctor 2>&1; echo "doctor $?"
keys | cmp - /keys && echo "the same keys"
dpkg -i /wheels/penstock.deb >/refusal 2>&1; echo "gateway beside it $?"
grep -o 'penstock conflicts with penstock-aggregator' /refusal
{INSTALL} 2>&1; echo "script beside it $?"
echo mine >/var/lib/penstock-aggregator/mine
dpkg -r penstock-aggregator >>/said 2>&1; echo "aggregator removed $?"
there /opt/penstock /var/lib/penstock-aggregator/mine
{INSTALL} >>/said 2>&1; echo "script $?"
keys | cmp - /keys && echo "the same keys"
dpkg -P penstock-aggregator 2>&1 | grep 'installed it here since'
there /opt/penstock/current/bin/penstock-aggregator /var/lib/penstock-aggregator/mine
keys | cmp - /keys && echo "the same keys"
sh /opt/penstock/current/share/penstock/uninstall.sh --purge >>/said 2>&1; echo "script removed $?"
dpkg -i /wheels/penstock-aggregator.deb >>/said 2>&1; echo "aggregator $?"
keys | cmp -s - /keys || echo "other keys"
dpkg -P penstock-aggregator >>/said 2>&1; echo "aggregator purged $?"
list >/after
comm -13 /before /after
getent passwd penstock-aggregator
echo end
tail -n 40 /said /doctor >&2
"""
SEEN = """\
gateway 0
check-config 0
gateway removed 0
gone /opt/penstock
there /etc/penstock/agent.toml
there /etc/penstock/conf.d/10-gateway.toml
aggregator 0
640 root:penstock-aggregator /etc/penstock/aggregator.toml
750 root:penstock-aggregator /etc/penstock/aggregator
600 penstock-aggregator:penstock-aggregator /etc/penstock/aggregator/calls.pem
644 root:root /etc/penstock/aggregator/bundles.pem.pub
700 penstock-aggregator:penstock-aggregator /var/lib/penstock-aggregator
gone /etc/systemd/system/multi-user.target.wants/penstock-aggregator.service
gateway purged 0
gone /etc/penstock/agent.toml
gone /etc/penstock/conf.d
gone /var/lib/penstock
there /etc/penstock/aggregator.toml
no user penstock
doctor 1
the same keys
gateway beside it 1
penstock conflicts with penstock-aggregator
penstock: the package penstock-aggregator is installed here: first apt-get remove penstock-aggregator \
(configuration and state stay)
script beside it 71
aggregator removed 0
gone /opt/penstock
there /var/lib/penstock-aggregator/mine
script 0
the same keys
penstock-aggregator: deploy/install.sh installed it here since: all stays but the settings, which dpkg removed
there /opt/penstock/current/bin/penstock-aggregator
there /var/lib/penstock-aggregator/mine
the same keys
script removed 0
aggregator 0
other keys
aggregator purged 0
end
"""


@pytest.fixture
def bound(wheelhouse: Path, tmp_path: Path) -> Path:
    """A folder with the wheels and both packages made of them; the wheels are those of this Python."""
    asked = [
        shutil.which("python3", path="/usr/bin") or "false",
        "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])",
    ]
    if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() != MINOR:
        pytest.skip(f"the system's Python is not {MINOR}")
    if shutil.which("dpkg") is None or shutil.which("deb-systemd-helper") is None:
        pytest.skip("no dpkg here")
    wheels, folder = tmp_path / "wheels", tmp_path / "bound"
    shutil.copytree(wheelhouse, wheels, ignore=lambda _, names: [name for name in names if not name.endswith(".whl")])
    if not [*wheels.glob("pip-*.whl")]:
        fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-input", "--no-deps", "--dest", str(wheels), "pip"]
        run = subprocess.run(fetch, capture_output=True, text=True, timeout=600, check=False)
        if run.returncode != 0:
            pytest.skip("the registry gives no pip")
    shutil.copytree(wheels, folder)
    for role in ROLES.values():
        root = tmp_path / role.name
        root.mkdir()
        entry = changelog(role, version="1.2.3", maintainer="M <m@x.invalid>", epoch_s=0)
        plant(root, role, source=ROOT, wheels=wheels, changelog=entry)
        control(root, role, version="1.2.3", arch="all", glibc="2.17", maintainer="M <m@x.invalid>")
        program.pack(root, folder / f"{role.package}.deb")
    return folder


@pytest.mark.needs_root
@pytest.mark.slow
def test_roles_that_follow_each_other_keep_what_is_theirs_and_the_last_leaves_nothing(folder: Path, bound: Path):
    run = in_a_throw_away_root(folder, LIFE, wheels=bound)

    assert run.stdout == SEEN, run.stdout + run.stderr

"""docs/aggregator.md, followed line by line: a server and a gateway in two throw-away roots, until they speak.

Every block of the page that begins with `# on the server`, `# on the gateway` or `# where the authority is kept` is run
as it stands, with `sh -e`, in the order of the page. What stands in for what is not there: `sudo` (we are root), `scp`
(both roots see one folder), and `systemctl` (`manager.py`).
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.steps import steps
from tests.deploy.throw_away import beside_throw_away_roots

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"server": "fleet.example", "gateway": "attic", "authority": "authority"}
DEMO = ROOT / "lab" / "demo"
SHIMS = {
    "sudo": 'exec "$@"',
    "scp": 'for last; do :; done\nfor each; do [ "$each" = "$last" ] || cp "$each" "/desk/${last%:}/"; done',
    "systemctl": f"exec {sys.executable} /src/tests/deploy/manager.py " + '"$@"',
}
RUN = """
ip link set lo up
mkdir {folder}/desk
for name in {hosts}; do mkdir {folder}/desk/$name; done
cp -r {captures}/teaching {captures}/judging {folder}/desk/fleet.example/
for root in server gateway; do
    mkdir {folder}/$root/desk
    mount --bind {folder}/desk {folder}/$root/desk
    printf '127.0.0.1 localhost fleet.example\\n' >{folder}/$root/etc/hosts
done
on() {{ chroot {folder}/"$1" /bin/sh -ec "cd /desk/$2; . $3" </dev/null; }}
{install}
for root in server gateway; do cp {shims}/* {folder}/$root/usr/local/bin/; done
{steps}
echo DOCTOR
chroot {folder}/server /usr/local/bin/penstock-aggregator doctor --json
echo CALLS
left=120
until ls {folder}/gateway/var/lib/penstock/federation/in/*.call 2>/dev/null || [ $left = 0 ]; do
    left=$((left - 1))
    sleep 1
done
chroot {folder}/gateway /opt/penstock/current/bin/penstock-finetune --help >/dev/null
chroot {folder}/server /usr/local/bin/penstock-aggregator status --json
echo LOGS
tail -n 20 {folder}/*/run/*.log
kill $(cat {folder}/*/run/*.pid) || true
"""


def test_every_block_says_where_it_is_run_and_no_host_is_unknown():
    places = [place for place, _ in steps()]

    assert places == ["authority", "server", "server", "server", "server", "gateway", "server"]
    assert set(re.findall(r"(\S+):$", "\n".join(text for _, text in steps()), re.MULTILINE)) <= set(HOSTS.values())


@pytest.mark.needs_root
@pytest.mark.slow
def test_the_page_followed_to_the_letter_ends_with_a_gateway_that_has_the_call(
    folder: Path, wheelhouse: Path, tmp_path: Path
):
    for program in ("mosquitto", "openssl", "ip", "setpriv"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"no {program} here")
    captures, shims = tmp_path / "captures", tmp_path / "shims"
    for name in ("teaching", "judging"):
        shutil.copytree(DEMO, captures / name)
    with open(captures / "judging" / "capture.pcap", "ab") as file:
        file.write(bytes(16))  # the header of an empty packet: another capture
    shims.mkdir()
    for name, text in SHIMS.items():
        (shims / name).write_text(f"#!/bin/sh\n{text}\n")
        (shims / name).chmod(0o755)
    wanted = f"--python {sys.executable} --wheelhouse /wheels"
    install = [
        f"chroot {folder}/server sh /src/deploy/install.sh --role aggregator {wanted} >&2",
        f"chroot {folder}/gateway sh /src/deploy/install.sh --interface lo {wanted} >&2",
    ]
    run_all = []
    for number, (place, text) in enumerate(steps()):
        (tmp_path / f"step-{number}").write_text(text)
        root = "server" if place == "authority" else place
        run_all += [
            f"cp {tmp_path}/step-{number} {folder}/desk/",
            f"echo STEP {number}",
            f"on {root} {HOSTS[place]} /desk/step-{number}",
        ]
    script = RUN.format(
        folder=folder, captures=captures, shims=shims, hosts=shlex.join(HOSTS.values()),
        install="\n".join(install), steps="\n".join(run_all),
    )  # fmt: skip

    run = beside_throw_away_roots(folder, script, names=["server", "gateway"], wheels=wheelhouse, with_network=False)

    said = run.stdout
    assert "LOGS\n" in said, said[-3000:] + run.stderr[-3000:]
    doctor = json.loads(said.partition("DOCTOR\n")[2].partition("\nCALLS")[0])
    assert (doctor["fail"], doctor["warn"]) == (0, 0), doctor
    assert {"broker", "rights", "windows", "keys"} <= {each["check"] for each in doctor["findings"]}
    calls, _, status = said.partition("CALLS\n")[2].partition("{")
    assert ".call" in calls, said[-3000:]
    status = json.loads("{" + status.partition("LOGS\n")[0])
    assert [(each["name"], each["is_revoked"]) for each in status["gateways"]] == [("attic", False)]
    assert status["round"]["state"] == "open"
    assert "\nenrolled attic\n" in said
    assert "  attic: waited for" in said

"""The Debian packages: what stands in them, and that their parts fit each other; their lives are for `make vm`."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.deb import __main__ as program
from deploy.deb.cross import MINOR
from deploy.deb.role import AGGREGATOR, GATEWAY, ROLES, Role
from deploy.deb.tree import SCRIPTS, changelog, configuration, control, files_of, plant
from deploy.deb.wheels import CONSTRAINTS, oldest_glibc

ROOT = Path(__file__).resolve().parents[2]
CONTROL = {"version": "1.2.3", "arch": "arm64", "glibc": "2.34", "maintainer": "M <m@example.invalid>"}


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> Role:
    return ROLES[request.param]


def planted(role: Role, tmp_path: Path) -> Path:
    """Return a package's tree around a wheelhouse of one empty wheel."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"x")
    folder = tmp_path / "root"
    folder.mkdir()
    entry = changelog(role, version="1.2.3", maintainer="M <m@x>", epoch_s=0)
    plant(folder, role, source=ROOT, wheels=wheels, changelog=entry)
    control(folder, role, **CONTROL)
    return folder


@pytest.fixture
def root(role: Role, tmp_path: Path) -> Path:
    return planted(role, tmp_path)


@pytest.mark.parametrize("script", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path):
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("no shellcheck")

    run = subprocess.run([checker, "-s", "sh", script], capture_output=True, text=True, timeout=120, check=False)

    assert run.stdout == ""


def test_every_unit_is_in_one_of_the_packages_and_the_aggregators_in_its_own(tmp_path: Path):
    kinds = {".service", ".timer", ".path"}
    units = {path.name for path in (ROOT / "systemd").glob("penstock*") if path.suffix in kinds}
    held = {}
    for role in ROLES.values():
        (tmp_path / role.name).mkdir()
        folder = planted(role, tmp_path / role.name) / role.unit_folder
        held[role.name] = {path.name for path in folder.iterdir()}

    assert held["aggregator"] == {"penstock-aggregator.service"}
    assert held["gateway"] == units - held["aggregator"]
    assert {"penstock.service", "penstock-offloads@.service"} <= held["gateway"]


def test_user_folders_command_and_pages_of_the_unit_are_in_its_package(root: Path, role: Role):
    unit = (root / role.unit_folder / f"{role.package}.service").read_text()
    (page,) = re.findall(r"^Documentation=file:/opt/penstock/current/share/penstock/(\S+)$", unit, re.MULTILINE)

    assert f"User={role.package}\n" in unit
    assert f"u {role.package} " in (root / f"usr/lib/sysusers.d/{role.package}.conf").read_text()
    assert f"d /var/lib/{role.package} " in (root / f"usr/lib/tmpfiles.d/{role.package}.conf").read_text()
    assert (root / "usr/bin" / role.package).readlink() == Path(f"/opt/penstock/current/bin/{role.package}")
    assert f"--config /{role.conffile}\n" in unit
    assert (root / role.share / page).exists()


def test_what_the_aggregators_page_takes_from_its_share_is_there(tmp_path: Path):
    share = planted(AGGREGATOR, tmp_path) / AGGREGATOR.share
    wanted = set(re.findall(r"\$share/([\w.]+)", (ROOT / "docs" / "aggregator.md").read_text()))

    assert wanted == {"penstock.acl", "penstock.conf"}
    assert [name for name in wanted if not (share / name).exists()] == []


def test_each_package_conflicts_with_the_other(root: Path, role: Role):
    assert f"\nConflicts: {role.other}\n" in (root / "DEBIAN/control").read_text()
    assert {each.package: each.other for each in ROLES.values()} == {
        "penstock": "penstock-aggregator", "penstock-aggregator": "penstock",
    }  # fmt: skip


def test_what_a_unit_starts_is_made_by_the_package(root: Path, role: Role):
    """The environment holds bin/; share/penstock in it is a link to the package's own folder."""
    started = set(re.findall(r"/opt/penstock/current/(\S+)", "".join(
        path.read_text() for path in (root / role.unit_folder).iterdir()
    )))  # fmt: skip

    assert 'ln -s "$SHARE" "$environment/share/penstock"' in (SCRIPTS / "postinst").read_text()
    own = {each.replace("share/penstock/", f"{role.share}/") for each in started if not each.startswith("bin/")}
    absent = [each for each in own if not (root / each).exists()]
    assert absent == []


def test_the_configuration_is_one_file_for_every_machine(root: Path, role: Role):
    assert (root / "DEBIAN/conffiles").read_text() == f"/{role.conffile}\n"
    assert [path.name for path in (root / "etc/penstock").iterdir()] == [role.settings]


def test_a_gateways_names_no_interface(tmp_path: Path):
    text = (planted(GATEWAY, tmp_path) / "etc/penstock/agent.toml").read_text()

    assert re.findall(r"^interfaces", text, re.MULTILINE) == []
    assert '#interfaces = ["eth0"]' in text


def test_a_sample_without_the_line_is_refused_instead_of_shipped():
    with pytest.raises(ValueError, match="0 lines"):
        configuration("[capture]\n")


def test_the_control_file_asks_for_the_python_that_the_wheels_are_for(root: Path):
    text = (root / "DEBIAN/control").read_text()
    following = f"{MINOR.split('.')[0]}.{int(MINOR.split('.')[1]) + 1}"

    assert f"python3 (>= {MINOR}~), python3 (<< {following}), libc6 (>= 2.34)" in text
    assert "Architecture: arm64\n" in text


def test_every_file_but_the_configuration_has_its_sum(root: Path, role: Role):
    summed = {line.split("  ")[1] for line in (root / "DEBIAN/md5sums").read_text().splitlines()}

    assert summed == {str(path.relative_to(root)) for path in files_of(root)} - {role.conffile}


def test_the_changelog_is_one_that_dpkg_reads(root: Path, role: Role, tmp_path: Path):
    reader = shutil.which("dpkg-parsechangelog")
    if reader is None:
        pytest.skip("no dpkg-parsechangelog")
    (tmp_path / "changelog").write_bytes(gzip.decompress((root / role.doc / "changelog.gz").read_bytes()))

    run = subprocess.run(
        [reader, "-l", tmp_path / "changelog"], capture_output=True, text=True, timeout=120, check=True
    )

    assert f"Source: {role.package}\nVersion: 1.2.3\n" in run.stdout
    assert "Date: Thu, 01 Jan 1970 00:00:00 -0000\n" in run.stdout
    assert run.stderr == ""


def test_modes_are_those_of_a_package_whatever_the_sources_have(root: Path):
    modes = {path.stat().st_mode & 0o777 for path in files_of(root)}
    scripts = {(root / "DEBIAN" / path.name).stat().st_mode & 0o777 for path in SCRIPTS.iterdir()}

    assert (modes, scripts) == ({0o644}, {0o755})


@pytest.mark.parametrize(
    ("package", "unit", "said"),
    [
        ("penstock", "penstock", "deploy/install.sh installed it here"),
        ("penstock", "penstock-aggregator", "which no gateway is"),
        ("penstock-aggregator", "penstock-aggregator", "deploy/install.sh installed it here"),
        ("penstock-aggregator", "penstock", "which no aggregator is"),
    ],
)
def test_it_is_not_unpacked_where_the_installers_units_would_win_or_the_other_role_is(
    tmp_path: Path, package: str, unit: str, said: str
):
    installed = tmp_path / f"{unit}.service"
    installed.touch()
    text = (SCRIPTS / "preinst").read_text()
    here = text.replace("/usr/local/lib/systemd/system/", f"{tmp_path}/")
    assert here.count(str(tmp_path)) == 1

    run = as_dpkg(package, here, "install")
    installed.unlink()
    free = as_dpkg(package, here, "install")

    assert (run.returncode, said in run.stderr, f"\n{package}: first: " in run.stderr) == (1, True, True)
    assert (free.returncode, free.stderr) == (0, "")


def as_dpkg(package: str, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a maintainer script as dpkg does, which tells it whose it is."""
    environ = {**os.environ, "DPKG_MAINTSCRIPT_PACKAGE": package}
    return subprocess.run(
        ["sh", "-s", *words], input=script, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


def test_what_purge_removes_is_all_that_the_units_and_scripts_make(role: Role):
    """Folders that systemd makes for a unit, by their settings, and those of postinst."""
    units = "".join(path.read_text() for path in role.units(ROOT))
    prefixes = {"State": "/var/lib", "Logs": "/var/log", "Cache": "/var/cache", "Runtime": "/run"}
    made = {f"{prefixes[kind]}/{name}" for kind, name in re.findall(r"^(\w+)Directory=(\S+)$", units, re.MULTILINE)
            if kind in prefixes}  # fmt: skip
    made |= {"/etc/penstock"}
    script = (SCRIPTS / "postrm").read_text()
    (own,) = re.findall(rf"^purge_{role.name}\(\) {{$(.*?)^}}$", script, re.MULTILINE | re.DOTALL)

    assert f"/var/lib/{role.package}" in made
    assert [each for each in sorted(made) if not re.search(rf"{each}(?=\s)", own)] == []
    assert f"{role.package}) purge_{role.name} ;;" in script
    assert f"forget {role.package}.service" in own
    assert 'rm -rf -- "/etc/systemd/system/$1.d"' in script


@pytest.mark.parametrize(
    ("names", "symbols", "wanted"),
    [
        (["a-1-cp311-cp311-manylinux_2_17_x86_64.whl"], b"GLIBC_2.14 GLIBC_2.4", "2.17"),
        (["a-1-cp311-cp311-manylinux_2_17_x86_64.whl"], b"GLIBC_2.14 GLIBC_2.35", "2.35"),
        (["a-1-cp311-abi3-manylinux_2_34_x86_64.whl"], b"GLIBC_2.14", "2.34"),
    ],
)
def test_the_glibc_asked_for_is_the_newest_that_any_wheel_or_our_own_core_needs(
    tmp_path: Path, names: list[str], symbols: bytes, wanted: str
):
    for name in names:
        (tmp_path / name).touch()
    with zipfile.ZipFile(tmp_path / "penstock-1-cp311-cp311-linux_x86_64.whl", "w") as archive:
        archive.writestr("flowfeatures/table.so", b"\x7fELF" + symbols)

    assert oldest_glibc(tmp_path) == wanted


def test_every_package_it_carries_is_pinned():
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line)] == []
    assert {"numpy", "onnxruntime", "scapy", "pip"} <= {line.partition("==")[0] for line in lines}


def test_dpkg_packs_the_tree_and_the_same_tree_gives_the_same_octets(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    packed = []
    for name in ("one.deb", "two.deb"):
        program.pack(root, tmp_path / name)
        packed.append((tmp_path / name).read_bytes())

    listed = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", tmp_path / "one.deb"], capture_output=True, check=True, timeout=60
    ).stdout
    (tmp_path / "files.tar").write_bytes(listed)
    with tarfile.open(tmp_path / "files.tar") as archive:
        owners = {(member.uname, member.gname) for member in archive}
    assert packed[0] == packed[1]
    assert owners == {("root", "root")}

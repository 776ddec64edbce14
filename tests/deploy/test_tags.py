"""Which wheels a machine takes, and the glibc a wheel asks for by its name."""

from __future__ import annotations

import pytest
from packaging.tags import Tag, cpython_tags
from packaging.utils import parse_wheel_filename

from deploy.tags import Target, glibc_minor_wanted

NANO = Target(python="3.11", glibc="2.27", machine="aarch64")


def test_a_machine_takes_wheels_of_its_own_glibc_and_of_each_older_one_but_of_no_newer():
    platforms = list(NANO.platforms())

    assert platforms[0] == "manylinux_2_27_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"} <= set(platforms)
    assert "manylinux_2_28_aarch64" not in platforms


@pytest.mark.parametrize(
    ("file", "is_taken"),
    [
        ("onnxruntime-1.28.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", True),
        ("onnxruntime-1.29.0-cp311-cp311-manylinux_2_28_aarch64.whl", False),
        ("cryptography-50.0.2-cp311-abi3-manylinux2014_aarch64.whl", True),
        ("scapy-2.8.0-py3-none-any.whl", True),
        ("numpy-2.4.6-cp310-cp310-manylinux_2_27_aarch64.whl", False),
        ("numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl", False),
    ],
)
def test_the_options_for_pip_take_what_packaging_says_the_machine_takes(file: str, is_taken: bool):
    """packaging's own list of tags, for the platforms and ABIs among the options, is the judge."""
    options = NANO.pip_options()
    platforms = [each.partition("=")[2] for each in options if each.startswith("--platform=")]
    abis = [each.partition("=")[2] for each in options if each.startswith("--abi=")]
    supported = set(cpython_tags((3, 11), abis=[abis[0]], platforms=platforms)) | {Tag("py3", "none", "any")}

    assert bool(parse_wheel_filename(file)[3] & supported) is is_taken


@pytest.mark.parametrize(
    ("file", "minor"),
    [
        ("a-1-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl", 27),
        ("a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 17),
        ("a-1-py3-none-any.whl", 0),
    ],
)
def test_the_oldest_of_a_wheels_names_decides_which_glibc_it_runs_on(file: str, minor: int):
    assert glibc_minor_wanted(file) == minor


def test_a_target_answers_markers_for_itself_and_not_for_this_machine():
    old = Target(python="3.10", glibc="2.35", machine="aarch64").environment()

    assert (old["python_version"], old["platform_machine"], old["sys_platform"]) == ("3.10", "aarch64", "linux")

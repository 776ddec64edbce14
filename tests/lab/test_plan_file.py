"""A plan file says what it means, and what it cannot mean is refused with its name and key."""

from __future__ import annotations

import pytest

from contracts.errors import UsageError
from lab.attacks import TECHNIQUES
from lab.benign import ACTIVITIES
from lab.plan_file import read_plan, shipped

pytest.importorskip("tomllib")


def written(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", shipped())
def test_each_plan_of_the_tree_can_be_read(name):
    plan = read_plan(name)

    assert plan.name == name
    assert plan.about


def test_a_file_that_says_nothing_is_benign_and_weighs_everything_alike(tmp_path):
    plan = read_plan(written(tmp_path, ""))

    assert plan.attacks_per_minute == 0
    assert plan.attacks == dict.fromkeys(TECHNIQUES, 1.0)
    assert plan.benign == dict.fromkeys(ACTIVITIES, 1.0)


def test_others_is_the_weight_of_what_is_not_named(tmp_path):
    plan = read_plan(written(tmp_path, "[attacks]\nper_minute = 1\nothers = 0\nsyn_flood = 2\n"))

    assert {name: weight for name, weight in plan.attacks.items() if weight} == {"syn_flood": 2.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[attacks]\ntea_party = 1\n", "attacks: seen 'tea_party', wanted one of telnet_hydra"),
        ("[benign]\ntea = 1\n", "benign: seen 'tea', wanted one of "),
        ("[roles]\nbutler = 1\n", "roles: seen 'butler', wanted one of camera"),
        ("colour = 1\n", "key: seen 'colour', wanted one of about"),
        ("[network]\ncolour = 1\n", "network: seen 'colour', wanted one of devices"),
        ("minutes = 0\n", "minutes: seen '0', wanted a number from 0.5 to 1440"),
        ("minutes = true\n", "minutes: seen 'True', wanted a number"),
        ("[attacks]\nper_minute = 99\n", "attacks.per_minute: seen '99'"),
        ("[attacks]\nsyn_flood = -1\n", "attacks.syn_flood: seen '-1', wanted a number from 0 to 1000"),
        ("[attacks]\nper_minute = 1\nothers = 0\n", "no technique with a weight"),
        ("[roles]\nothers = 0\n", "no role with a weight"),
        ("[network]\ndevices = [9, 8]\n", "network.devices"),
        ("[network]\nnat = 1\n", "network.nat: seen '1', wanted true or false"),
        ("[network]\nmac_vendors = ['x']\n", "network.mac_vendors"),
        ("attacks = 3\n", "attacks: seen '3', wanted a table"),
        ("fixed = 'tea'\n", "fixed: seen 'tea', wanted 'demo'"),
        ("= 3\n", "mine.toml: "),
    ],
)
def test_what_a_file_cannot_mean_is_refused(text, said, tmp_path):
    with pytest.raises(UsageError) as refused:
        read_plan(written(tmp_path, text))

    assert said in str(refused.value)
    assert "mine.toml" in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_plan(str(tmp_path / "none.toml"))


def test_unseen_has_no_technique_and_no_device_of_train_or_validate():
    unseen = read_plan("unseen")

    for known in (read_plan("train"), read_plan("validate")):
        for ours, theirs in ((unseen.attacks, known.attacks), (unseen.roles, known.roles)):
            shared = {name for name in ours if ours[name] and theirs[name]} - {"hub"}
            assert shared == set()
        assert not set(unseen.mac_vendors) & set(known.mac_vendors)


def test_soak_attacks_nobody():
    assert read_plan("soak").attacks_per_minute == 0

"""aggregator.toml: the sample is the model, and each complaint names file, key, value and what is wanted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts.errors import ConfigError
from federation.aggregator.rounds import RoundSettings
from federation.aggregator.settings import SAMPLE, AggregatorConfig, load_config, sample, sections

LEAST = """
[fleet]
name = "homes"
[windows]
teaching = ["/t.json"]
judging = ["/j.json"]
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "aggregator.toml"
        path.write_text(text)
        return path

    return write


def test_the_sample_is_written_from_the_model():
    assert SAMPLE.read_text() == sample()


def test_the_sample_can_be_used_as_it_stands():
    assert load_config(SAMPLE).rounds.quorum == 3


def test_every_setting_of_the_sample_can_be_taken_up(written):
    config = load_config(written(sample(active=True)))

    bundle = {"path": config.bundle.path, "trust": config.bundle.trust}
    assert config.model_copy(update={"bundle": load_config(SAMPLE).bundle}) == load_config(SAMPLE)
    assert bundle["path"] is not None


def test_what_must_be_set_is_fleet_and_windows(written):
    config = load_config(written(LEAST))

    assert isinstance(config, AggregatorConfig)
    assert (config.worker.share, config.bundle.path, config.rollout.every_h) == ("", None, 24.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (LEAST + "[rounds]\nquorum = 0\n", "rounds.quorum: 0, wanted a whole number from 1 to 10,000"),
        (LEAST + "[rounds]\nquorum = 2.5\n", r"rounds.quorum: 2.5, wanted a whole number"),
        (LEAST + "[rounds]\nqorum = 3\n", "rounds.qorum: unknown key, wanted one of is_automatic, every_h"),
        (LEAST + "[round]\nquorum = 3\n", "round: unknown section, wanted one of fleet, broker"),
        (LEAST + '[rounds]\nstrategy = "fedmagic"\n', "rounds.strategy: 'fedmagic', wanted one of \"fedavg\""),
        (LEAST + '[broker]\nurl = "http://x"\n', "broker.url: 'http://x', wanted a text"),
        (LEAST + '[broker]\nca = "ca.pem"\n', "broker.ca: 'ca.pem', wanted an absolute path"),
        (LEAST + '[broker]\nca = ""\n', "broker.ca: '', wanted an absolute path"),
        (LEAST + '[worker]\nname = "a/b"\n', "worker.name: 'a/b', wanted"),
        (LEAST + '[worker]\nshare = "a+b"\n', "worker.share: 'a[+]b', wanted"),
        (LEAST + '[worker]\nstore = "a.db"\n', "worker.store: no absolute path, and no URL of postgresql://$"),
        (LEAST + '[worker]\nstore = "mysql://db/x"\n', "worker.store: no absolute path, and no URL of postgresql://$"),
        (LEAST + '[worker]\nstore = "postgresql://ann:hush@db/x"\n', "worker.store: a password in a URL, wanted it in"),
        (LEAST + '[worker]\nstore = "postgres://db/x?password=hush"\n', "worker.store: a password in a URL, wanted"),
        (LEAST + '[worker]\nstore = "postgres://ann:hush@[::1/x"\n', "worker.store: Invalid IPv6 URL$"),
        (LEAST + "[worker]\nstore = 3\n", "worker.store: no text$"),
        (LEAST + "[rollout]\ncanary_share = 0.0\n", "rollout.canary_share: 0.0, wanted a number above 0.0 to 1.0"),
        (LEAST + "[rollout]\ncanary_h = nan\n", "rollout.canary_h: nan, wanted a number"),
        (LEAST + "[metrics]\nport = 70000\n", "metrics.port: 70000, wanted a whole number from 1 to 65,535"),
        ('[fleet]\nname = "homes"\n', r"\[windows\]: missing"),
        ('[fleet]\nname = "ho/mes"\n[windows]\nteaching=["/t"]\njudging=["/j"]\n', "fleet.name: 'ho/mes', wanted"),
        ('[fleet]\n[windows]\nteaching=["/t"]\njudging=["/j"]\n', "fleet.name: missing, wanted"),
        ('[fleet]\nname="h"\n[windows]\nteaching=[]\njudging=["/j"]\n', "windows.teaching: .*, wanted a list"),
        ("fleet = 3\n", r"\[fleet\]: missing, or no table"),
        ("x = [\n", "not TOML"),
    ],
)
def test_a_complaint_names_file_key_value_and_what_is_wanted(written, text: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config(written(text))

    assert "aggregator.toml: " in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("store", ["/srv/fleet.db", "postgresql://db.example/penstock?sslmode=verify-full&passfile=/p"])
def test_a_store_is_a_path_or_a_url(written, store: str):
    assert load_config(written(f'{LEAST}[worker]\nstore = "{store}"\n')).worker.store == store


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"gone\.toml: not there, wanted a copy of deploy"):
        load_config(tmp_path / "gone.toml")


def test_the_strategies_of_the_settings_are_those_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("federation.aggregator.flower.is_installed", lambda: True)
    told = re.findall(r'"(\w+)"', sample().split("strategy =")[0].rpartition("(one of")[2])

    assert [RoundSettings(strategy=name).strategy for name in told] == told
    assert len(told) == 7


def test_every_section_says_what_it_is():
    assert [name for name, section in sections().items() if not section.__doc__] == []

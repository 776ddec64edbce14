"""Which bundle an agent starts with, and which a reload brings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.bundles.store import Store, Wish, name_of
from agent.config import AgentConfig, load_config
from agent.live.judging import Judging, first_bundle
from agent.state.rules import RulesFile
from agent.stopwatch import Stopwatch
from contracts.bundle import Bundle, default_bundle
from contracts.errors import BundleOutdated, BundleUntrusted
from flowfeatures import DEFAULT_HOME_NETS
from tests.bundles import sign, write_refusal_bundle

pytest.importorskip("onnxruntime")


class Site:
    """A gateway's state, its keys, its bundles by release."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trust = folder / "trust.d"
        self.judging: Judging | None = None

    def bundle(self, release: int) -> Path:
        folder = self.folder / f"r{release}"
        return folder if folder.exists() else sign(write_refusal_bundle(folder, release=release), self.trust)

    def settings(self, release: int | None = None, **changes: object) -> AgentConfig:
        given = {"capture.interfaces": ["eth0"], "scoring.trust_dir": self.trust, "scoring.shadow_windows": 0}
        if release is not None:
            given["scoring.bundle"] = self.bundle(release)
        given |= {name.replace("__", "."): value for name, value in changes.items()}
        return load_config(None, environ={}, overrides=given)

    def start(self, config: AgentConfig) -> int:
        """Start judging; return the release that serves."""
        self.judging = Judging(
            config,
            state_dir=self.folder / "state",
            home_nets=DEFAULT_HOME_NETS,
            never_ban=(),
            stopwatch=Stopwatch(),
        )
        return self.serves

    @property
    def serves(self) -> int:
        return self.judging.serving.bundle.manifest.release

    def reload(self, before: AgentConfig, after: AgentConfig) -> int:
        self.judging.new_bundle(before, after)()
        return self.serves

    def wish(self, wish: Wish) -> int:
        self.judging.store.want(wish)
        self.judging.look()
        return self.serves

    def staged(self, release: int) -> Bundle:
        return self.judging.store.stage(self.bundle(release), newest=0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_without_a_setting_the_packages_bundle_serves(site: Site):
    assert site.start(site.settings()) == default_bundle().manifest.release


def test_the_configured_bundle_serves_and_so_it_does_where_its_folder_is_gone_later(site: Site):
    first = site.start(site.settings(1000))
    for file in site.bundle(1000).iterdir():
        file.unlink()

    assert (first, site.start(site.settings(1000))) == (1000, 1000)


def test_an_older_one_in_the_settings_does_not_serve_after_a_newer_one(site: Site, capsys):
    site.start(site.settings(1000))
    site.wish(Wish(name_of(site.staged(1001))))

    assert site.start(site.settings(1000)) == 1001
    assert "wanted 1001 or later" in capsys.readouterr().err


def test_a_reload_for_something_else_leaves_a_newer_bundle_in_place(site: Site):
    config = site.settings(1000)
    site.start(config)
    site.wish(Wish(name_of(site.staged(1001))))

    assert site.reload(config, site.settings(1000, scoring__deadline_ms=20)) == 1001


def test_a_reload_that_names_an_older_bundle_is_refused(site: Site):
    site.start(site.settings(1000))

    with pytest.raises(BundleOutdated):
        site.judging.new_bundle(site.settings(1000), site.settings(999))
    assert site.serves == 1000


def test_a_reload_that_names_a_newer_bundle_brings_it(site: Site):
    site.start(site.settings(1000))

    assert site.reload(site.settings(1000), site.settings(1001)) == 1001
    assert site.start(site.settings(1001)) == 1001


def test_a_reload_that_names_none_brings_the_packages(site: Site):
    site.start(site.settings(1000))

    assert site.reload(site.settings(1000), site.settings()) == default_bundle().manifest.release


def test_where_an_operator_went_back_neither_a_reload_nor_a_restart_goes_on_again(site: Site):
    config = site.settings(1001)
    site.start(site.settings(1000))
    site.reload(site.settings(1000), config)
    back = site.wish(Wish(name_of(site.staged(1000)), rollback=True))

    assert back == 1000
    assert site.reload(config, site.settings(1001, scoring__deadline_ms=20)) == 1000
    assert site.start(config) == 1000


def test_what_was_refused_here_is_named_when_the_settings_ask_for_it(site: Site):
    site.start(site.settings(1000))
    site.judging.store.refuse(name_of(site.staged(1001)), "calls 20 of 20 windows attacks")

    with pytest.raises(BundleUntrusted, match="was refused here: calls 20 of 20"):
        site.judging.new_bundle(site.settings(1000), site.settings(1001))
    assert site.wish(Wish(name_of(site.staged(1001)), at_once=True)) == 1001


def test_keys_count_only_once_the_whole_reload_does(site: Site):
    site.start(site.settings(1000))
    other = shutil.copytree(site.trust, site.folder / "other")
    commit = site.judging.new_bundle(site.settings(1000), site.settings(1000, scoring__trust_dir=other))
    before = site.judging.store.trust
    commit()

    assert (before, site.judging.store.trust) == (site.trust, other)


def test_keys_that_do_not_vouch_for_the_bundle_in_the_settings_are_refused(site: Site):
    site.start(site.settings(1000))

    with pytest.raises(BundleUntrusted):
        site.judging.new_bundle(site.settings(1000), site.settings(1000, scoring__trust_dir=site.folder / "none"))


def test_a_reload_is_no_start_of_a_bundle_on_trial(site: Site):
    config = site.settings(scoring__shadow_windows=10)
    site.start(config)
    served = site.judging.store.stage(site.bundle(10**6), newest=0)
    site.judging.store.activated(served, trial=True)
    for _ in range(9):
        site.reload(config, config)

    assert site.judging.store.standing.trial_starts == 0


def test_a_first_start_with_a_bundle_that_cannot_serve_says_so(site: Site, tmp_path: Path):
    unsigned = write_refusal_bundle(tmp_path / "unsigned", release=1000)

    with pytest.raises(BundleUntrusted):
        first_bundle(Store(tmp_path / "models", trust=site.trust), unsigned)


def test_calibration_is_kept_for_the_bundle_that_comes_back(site: Site):
    site.start(site.settings(1000))
    before = site.judging.calibrator
    site.reload(site.settings(1000), site.settings(1001))
    other = site.judging.calibrator

    site.wish(Wish(name_of(site.staged(1000)), rollback=True))

    assert other is not before
    assert site.judging.calibrator is before


def test_calibration_can_be_switched_off_and_on(site: Site):
    site.start(site.settings())
    site.judging.change(site.settings(judgement__calibrate=False))
    off = site.judging.calibrator
    site.judging.change(site.settings(judgement__calibrate=True, judgement__calibration_windows=500))

    assert off is None
    assert site.judging.calibrator.facts().windows_wanted == 500


def test_rules_of_an_operator_are_taken_up_and_broken_ones_are_told_once(site: Site, capsys):
    state = site.folder / "state"
    state.mkdir()
    site.start(site.settings())
    before = site.judging.rules
    RulesFile(state / "rules.json").change(lambda state: state, now_us=0)
    site.judging.look()
    taken = site.judging.rules
    (state / "rules.json").write_text("no rules")

    site.judging.look()
    site.judging.look()

    assert taken is not before
    assert site.judging.rules is taken
    assert capsys.readouterr().err.count("the rules of before hold") == 1

"""Flower's strategies in process, against our own and against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.errors import MissingExtra
from federation.aggregator import flower
from federation.aggregator.rounds import RoundSettings
from federation.aggregator.strategies import STRATEGIES, believed, merge
from tests.federation.homes import hold_out, rounds_at
from tests.federation.test_rounds import LATER_US, NAMES, Fleet

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
EXAMPLES = np.array([100, 200, 300, 200, 2_000_000])


def honest(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(0.1, 0.02, (count, 40))


def told(name: str, values: np.ndarray, **changes: object) -> np.ndarray:
    examples = np.resize(EXAMPLES, len(values))
    return merge(name, values, examples, round_number=1, memory={}, **changes).delta


@pytest.fixture
def flwr() -> None:
    pytest.importorskip("flwr", reason="the federate extra is not installed")


@pytest.mark.usefixtures("flwr")
@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("name", STRATEGIES)
def test_flower_gives_what_we_give_without_it(name: str, count: int):
    values, examples = honest(count), np.resize(EXAMPLES, count)

    assert told(name, values) == pytest.approx(STRATEGIES[name](values, examples), abs=1e-12)


@pytest.mark.usefixtures("flwr")
def test_krum_gives_the_update_nearest_to_its_neighbours():
    values = honest()
    values[2] *= -20
    squared = ((values[:, None] - values[None]) ** 2).sum(axis=2)
    scores = np.sort(squared, axis=1)[:, 1 : 5 - 1 - 2 + 1].sum(axis=1)  # n - f - 2 neighbours, with f = 1

    assert told("krum", values) == pytest.approx(values[int(scores.argmin())])


@pytest.mark.usefixtures("flwr")
@pytest.mark.parametrize("name", ["krum", "bulyan", "fedmedian", "fedtrimmedavg"])
def test_one_liar_of_seven_moves_a_robust_strategy_little(name: str):
    values = honest(7)
    values[3] *= -20
    truth = honest(7).mean(axis=0)

    moved = told(name, values)

    assert np.linalg.norm(moved - truth) / np.linalg.norm(truth) < 0.4
    assert np.linalg.norm(told("fedavg", values) - truth) / np.linalg.norm(truth) > 2


@pytest.mark.usefixtures("flwr")
def test_fedprox_differs_from_fedavg_on_the_gateway_alone():
    assert told("fedprox", honest()) == pytest.approx(told("fedavg", honest()))


@pytest.mark.usefixtures("flwr")
def test_fedadam_remembers_its_moments():
    """By hand, as Flower does it: m and v move towards the mean delta, the step is eta' m / (sqrt(v) + tau)."""
    values, mean = honest(), STRATEGIES["fedavg"](honest(), EXAMPLES)
    m = v = np.zeros(40)
    memory: flower.Memory = {}

    for number in (1, 2, 3):
        merged = merge("fedadam", values, EXAMPLES, round_number=number, memory=memory)
        m, v, memory = 0.9 * m + 0.1 * mean, 0.99 * v + 0.01 * mean**2, merged.memory
        rate = flower.ADAM_RATE * np.sqrt(1 - 0.99 ** (number + 1)) / (1 - 0.9 ** (number + 1))

        assert merged.delta == pytest.approx(rate * m / (np.sqrt(v) + 1e-3))


@pytest.mark.usefixtures("flwr")
def test_a_round_by_fedadam_keeps_its_moments_on_disk(folder):
    fleet = Fleet(folder)
    for name in NAMES:
        fleet.submit(name)
    fleet.ledger.close()
    ledger, rounds = rounds_at(folder / "aggregator.db", KEY, strategy="fedadam")

    closed = rounds.close(now_us=LATER_US, hold_out=hold_out())

    assert closed.state in {"adopted", "refused"}
    assert len(ledger.rows("SELECT name FROM memory")) == (2 if closed.state == "adopted" else 0)
    entry = next(each for each in ledger.audit() if each["what"] == "aggregated")
    assert (entry["strategy"], entry["by"]) == ("fedadam", "flwr")


def test_a_strategy_of_flower_s_alone_says_what_it_wants(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flower, "is_installed", lambda: False)

    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[federate\]'"):
        RoundSettings(strategy="krum")
    assert merge("fedavg", honest(), EXAMPLES, round_number=1, memory={}).by == "penstock"
    with pytest.raises(ValueError, match="wanted one of fedavg, fedprox"):
        RoundSettings(strategy="fedmagic")


def test_examples_are_believed_up_to_four_times_the_median():
    assert believed(EXAMPLES).tolist() == [100, 200, 300, 200, 800]

"""Clients on one machine: the mean of their steps, by our own loop and by Flower's, and the two agree."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from contracts.head import read_head
from federation.simulation.clients import HeadClient, Learnt, head_arrays, head_in
from federation.simulation.fleet import averaged, hold_round
from tests.federation.homes import bundle, demo

needs_flower = pytest.mark.skipif(importlib.util.find_spec("flwr") is None, reason="wants the federate extra (flwr)")


def head_clients(count: int = 3) -> list[HeadClient]:
    windows = demo().where(demo().label >= 0)
    own = [windows.where(np.arange(len(windows)) % count == place) for place in range(count)]
    return [HeadClient(each.embedding, each.label, np.ones(len(each))) for each in own]


def network_clients(scope: str, count: int = 3):
    torch = pytest.importorskip("torch")
    from federation.simulation.clients import NetworkClient
    from training.finetune import LocalSettings, weights, without_dropout
    from training.networks import build

    torch.manual_seed(1)
    network = without_dropout(build("cnn_self_attention", layout="row", features=12, classes=2, filters=(8, 8, 8)))
    rng = np.random.default_rng(2)
    rows = torch.from_numpy(rng.normal(size=(90, 12)).astype(np.float32))
    label = (rows[:, 0] > 0).long()
    settings = LocalSettings(scope=scope, rate=0.1, batch=8)
    clients = [
        NetworkClient(
            network, rows[place::count][: 20 + place], label[place::count][: 20 + place], settings, seed=place
        )
        for place in range(count)
    ]
    return clients, weights(network, scope=scope)


def test_the_mean_counts_rows():
    told = [Learnt({"w": np.full(2, value, np.float32)}, rows) for value, rows in ((1.0, 30), (5.0, 10))]

    assert averaged(told)["w"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    "told",
    [
        [Learnt({"w": np.ones(2, np.float32)}, 1), Learnt({"v": np.ones(2, np.float32)}, 1)],
        [Learnt({"w": np.ones(2, np.float32)}, 0)],
    ],
)
def test_a_mean_of_different_things_or_of_nothing_is_refused(told: list[Learnt]):
    with pytest.raises(ValueError, match="the same arrays and at least one row"):
        averaged(told)


def test_a_round_of_heads_finds_more_of_what_the_clients_know():
    start = head_arrays(read_head(bundle().model))
    clients = head_clients()

    arrays, _ = hold_round(clients, start, turn=0)

    windows = demo().where(demo().label >= 0)
    before, after = (
        (head_in(each).probabilities(windows.embedding).argmax(axis=1) == windows.label).mean()
        for each in (start, arrays)
    )
    assert after > before
    assert all(np.array_equal(arrays[name], hold_round(clients, start, turn=0)[0][name]) for name in arrays)


@pytest.mark.parametrize("arrays", [{}, {"head_w": np.zeros((2, 3), np.float32), "head_b": np.zeros(3, np.float32)}])
def test_what_is_no_head_is_refused(arrays: dict):
    with pytest.raises(ValueError, match="wanted head_w"):
        head_in(arrays)


@pytest.mark.needs_torch
@pytest.mark.parametrize("scope", ["head", "all"])
def test_rounds_of_networks_learn_and_move_what_their_scope_says(scope: str):
    clients, arrays = network_clients(scope)
    start, losses = arrays, []

    for turn in range(6):
        arrays, loss = hold_round(clients, arrays, turn=turn)
        losses.append(loss)

    assert losses[-1] < losses[0]
    assert set(arrays) == ({"head_w", "head_b"} if scope == "head" else set(start))


@needs_flower
def test_flower_holds_the_rounds_of_heads_as_our_loop_does():
    from federation.simulation.flower import client_app, run_in_process, server_app

    clients, came = head_clients(), []
    wanted = head_arrays(read_head(bundle().model))
    server = server_app(wanted, rounds=2, nodes=3, at_end=came.append)

    run_in_process(server, client_app(clients.__getitem__), nodes=3)

    for turn in range(2):
        wanted, _ = hold_round(clients, wanted, turn=turn)
    for name, array in wanted.items():
        assert np.abs(came[0][name] - array).max() < 1e-5, name


@needs_flower
@pytest.mark.needs_torch
@pytest.mark.parametrize("scope", ["head", "all"])
def test_flower_holds_the_rounds_of_networks_as_our_loop_does(scope: str):
    from federation.simulation.flower import client_app, run_in_process, server_app

    clients, start = network_clients(scope)
    came: list = []

    run_in_process(
        server_app(start, rounds=3, nodes=3, at_end=came.append), client_app(clients.__getitem__), nodes=len(clients)
    )

    wanted = start
    for turn in range(3):
        wanted, _ = hold_round(clients, wanted, turn=turn)
    assert set(came[0]) == set(wanted)
    for name, array in wanted.items():
        assert np.abs(came[0][name] - array).max() < 1e-5, name


@needs_flower
def test_flower_takes_one_of_its_own_strategies():
    from flwr.serverapp.strategy import FedMedian

    from federation.simulation.flower import client_app, run_in_process, server_app

    clients, came = head_clients(), []
    start = head_arrays(read_head(bundle().model))
    server = server_app(start, rounds=1, nodes=3, at_end=came.append, strategy=FedMedian(fraction_evaluate=0.0))

    run_in_process(server, client_app(clients.__getitem__), nodes=3)

    steps = np.stack([client.step(start, turn=0).arrays["head_b"] for client in clients])
    assert came[0]["head_b"] == pytest.approx(np.median(steps, axis=0), abs=1e-6)


@pytest.mark.slow
@needs_flower
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Flower's simulation wants ray")
def test_flower_s_own_simulation_runs_the_apps():
    from flwr.simulation import run_simulation

    from federation.simulation.flower import client_app, server_app

    came: list = []
    wanted = head_arrays(read_head(bundle().model))
    server = server_app(wanted, rounds=1, nodes=3, at_end=came.append)

    run_simulation(server, client_app(_client_of), num_supernodes=3)

    wanted, _ = hold_round(head_clients(), wanted, turn=0)
    assert np.abs(came[0]["head_b"] - wanted["head_b"]).max() < 1e-5


def _client_of(place: int) -> HeadClient:
    return head_clients()[place]

"""The same step as a Flower ClientApp, and rounds of it as a ServerApp: for those who run Flower. Needs `federate`.

Both apps are Flower's own and run wherever Flower runs them (`flwr run`, its simulation on ray); `run_in_process` runs
them here, one node after the other, without ray or a network. A client knows its rows by `partition-id` of its node, as
Flower's simulation gives it. Trap: Flower draws nodes in any order, so sums may differ from `fleet`'s in the last bit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from federation.simulation.clients import Arrays, Client

ARRAYS: Final = "arrays"
PARTITION: Final = "partition-id"


def client_app(client_of: Callable[[int], Client]) -> ClientApp:
    """Return a ClientApp whose train step is that of the client with the node's partition."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        turn = int(message.content["config"]["server-round"]) - 1  # Flower counts from 1
        client = client_of(int(context.node_config[PARTITION]))
        learnt = client.step(arrays_in(message.content[ARRAYS]), turn=turn)
        metrics: dict[str, int | float] = {"num-examples": learnt.examples}
        if np.isfinite(learnt.loss):
            metrics["loss"] = learnt.loss
        content = RecordDict({ARRAYS: record_of(learnt.arrays), "metrics": MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    return app


def server_app(
    arrays: Mapping[str, NDArray[np.float32]],
    *,
    rounds: int,
    nodes: int,
    at_end: Callable[[Arrays], None],
    strategy: Any = None,
) -> ServerApp:
    """Return a ServerApp that holds rounds of so many nodes from these weights and gives `at_end` what came of them.

    `strategy` is one of Flower's; where none is given, FedAvg that waits for all nodes and evaluates at none of them.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        chosen = strategy
        if chosen is None:
            chosen = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
        result = chosen.start(grid=grid, initial_arrays=record_of(arrays), num_rounds=rounds)
        at_end(arrays_in(result.arrays))

    return app


def run_in_process(server: ServerApp, client: ClientApp, *, nodes: int) -> None:
    """Run both apps in this process: a message is handed to the ClientApp, its answer back."""
    with _identity():
        server(_Here(client, nodes), _context(0, {}))


@contextlib.contextmanager
def _identity() -> Iterator[None]:
    """Say who asks while messages are made: Flower from 1.41 on wants a task, a run and a node."""
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ImportError:
        yield
        return
    fields = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in fields}
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


def record_of(arrays: Mapping[str, NDArray[np.float32]]) -> ArrayRecord:
    """Return weights as Flower carries them."""
    return ArrayRecord({name: Array(np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()})


def arrays_in(record: ArrayRecord) -> Arrays:
    """Return the weights that a record of Flower holds."""
    return {str(name): np.asarray(array.numpy(), np.float32) for name, array in record.items()}


class _Here(Grid):
    """Nodes in this process. Each has a context of its own that stays from round to round."""

    def __init__(self, client: ClientApp, nodes: int) -> None:
        self._client = client
        told = [{PARTITION: place, "num-partitions": nodes} for place in range(nodes)]
        self._contexts = {place + 1: _context(place + 1, config) for place, config in enumerate(told)}
        self._answers: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        """Take no run: there is one."""

    @property
    def run(self) -> Any:
        """Raise NotImplementedError: nothing here keeps runs apart."""
        raise NotImplementedError

    def create_message(self, content: Any, message_type: str, dst_node_id: int, group_id: str, ttl: Any = None) -> Any:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[Any]:
        """Raise NotImplementedError: a node here is its number."""
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the nodes answer; return what their answers are known by."""
        names = []
        for message in messages:
            name = str(len(self._answers))
            self._answers[name] = self._client(message, self._contexts[message.metadata.dst_node_id])
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers."""
        return [self._answers[name] for name in message_ids]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Return the answers to messages."""
        return self.pull_messages(self.push_messages(messages))


def _context(node: int, config: dict[str, Any]) -> Context:
    return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})

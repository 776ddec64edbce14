"""Pruning beside its control: the same windows and seeds, a budget that does not flatter, facts of what happened."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from exporter import cli
from exporter.measure import earlier_steps
from exporter.shrink import FIGURES, Sets, Shrunk, Side, save, shrink, table, who_is_ahead
from tests.exporter.test_pack import checkpoint, packed_into
from tests.training.windows import made_up_windows
from training.checkpoint import Checkpoint, load_checkpoint, save_parity_windows
from training.errors import CheckpointError
from training.fit import FitSettings
from training.networks import network_of

pytestmark = pytest.mark.needs_torch


@pytest.fixture(scope="module")
def shrunk() -> Shrunk:
    sides = {side: made_up_windows(120, seed=n) for n, side in enumerate(("train", "validation", "test"))}
    benign = sides["validation"].where(sides["validation"].label == 0)
    before = checkpoint(
        history=[{"epoch": 0, "validation_loss": 1.0}] * 3, unknown={"kind": "energy"},
        figures={"test": {"split": "by capture", "values": {}}},
    )  # fmt: skip
    settings = FitSettings(epochs=2, steps=25, batch=32, patience=9)
    return shrink(before, Sets(sides, {"lab": benign}), keep=0.5, seeds=[1, 2], settings=settings)


def test_the_pruned_network_is_really_smaller(shrunk):
    network = network_of(shrunk.checkpoint.arrays, shrunk.checkpoint.facts["network"])
    whole, _, _, pruned, _ = shrunk.sides

    assert shrunk.checkpoint.facts["pruning"]["units"] == {"hidden": 32, "embedding": 24}
    assert shrunk.checkpoint.arrays["gru_r"].shape == (96, 32)
    assert pruned.parameters == sum(each.numel() for each in network.parameters()) < whole.parameters / 2
    assert pruned.model_bytes < 0.6 * whole.model_bytes


def test_the_control_has_the_size_and_all_the_epochs_of_the_pruned_one(shrunk):
    whole, _, whole_on, pruned, scratch = shrunk.sides

    assert (scratch.parameters, scratch.model_bytes) == (pruned.parameters, pruned.model_bytes)
    assert whole_on.parameters == whole.parameters
    assert whole_on.epochs == scratch.epochs == pruned.epochs == 3 + 2
    assert len(scratch.seeds) == len(pruned.seeds) == 2


def test_pruned_and_control_are_two_networks(shrunk):
    _, cut, _, pruned, scratch = shrunk.sides

    assert pruned.seeds != scratch.seeds
    assert pruned.seeds[0] != cut.seeds[0]


def test_what_the_step_cost_goes_with_the_checkpoint(shrunk):
    (step,) = earlier_steps(shrunk.checkpoint)
    whole, _, whole_on, pruned, _ = shrunk.sides
    after = [seed["validation"]["accuracy"] for seed in pruned.seeds]
    taught_on = [seed["validation"]["accuracy"] for seed in whole_on.seeds]

    assert step.name == "pruning"
    # Beside the whole network as it was or taught on with the same seed, whichever is better.
    least = whole.seeds[0]["validation"]["accuracy"]
    assert (step.accuracy_before, step.accuracy_after) in [
        (max(least, on), pruned_on) for on, pruned_on in zip(taught_on, after, strict=True)
    ]
    assert (step.bytes_before, step.bytes_after) == (whole.model_bytes, pruned.model_bytes)


def test_an_unknown_score_of_the_old_embedding_is_not_carried_over(shrunk):
    assert "unknown" not in shrunk.checkpoint.facts
    assert shrunk.checkpoint.unknown == {}


def test_a_pruned_checkpoint_is_saved_loaded_and_packed(shrunk, tmp_path):
    windows = made_up_windows(30)
    (tmp_path / "whole").mkdir()
    save_parity_windows(tmp_path / "whole", windows=windows.values, mask=windows.mask)

    save(shrunk, tmp_path / "pruned", beside=tmp_path / "whole")
    loaded = load_checkpoint(tmp_path / "pruned")

    assert all(np.array_equal(loaded.arrays[name], array) for name, array in shrunk.checkpoint.arrays.items())
    # What the gate makes of the loss stands elsewhere; here it is an untaught network's, and taken out.
    (step,) = loaded.facts["compression"]
    free = {"compression": [step | {"accuracy_after": step["accuracy_before"]}]}
    packed = packed_into(tmp_path / "bundle", made=Checkpoint(loaded.arrays, loaded.facts | free))
    assert [each.name for each in packed.measured.steps] == ["pruning", "int8 storage"]
    assert packed.measured.model_bytes == step["bytes_after"]


def test_a_checkpoint_is_not_pruned_over_itself(shrunk, tmp_path):
    with pytest.raises(CheckpointError, match="is the checkpoint to prune, wanted another folder"):
        save(shrunk, tmp_path, beside=tmp_path)


def test_the_table_shows_all_five_side_by_side_with_the_range_of_seeds(shrunk):
    lines = table(shrunk.sides)

    assert [line.split("  ")[0] for line in lines[1::2]] == [
        "whole", "pruned", "whole, taught on", "pruned, taught on", "scratch at that size",
    ]  # fmt: skip
    assert any(" .. " in line for line in lines[5:])
    assert "validation" in lines[1]
    assert "test" in lines[2]


def side(name: str, *accuracies: float) -> Side:
    seeds = tuple({"validation": dict.fromkeys(FIGURES, value)} for value in accuracies)
    return Side(name=name, parameters=1, model_bytes=1, epochs=1, seeds=seeds)


@pytest.mark.parametrize(
    ("pruned", "scratch", "said"),
    [
        ((0.95, 0.96), (0.93, 0.94), "pruning is ahead"),
        ((0.93, 0.94), (0.95, 0.96), "the same size taught from scratch is ahead"),
        ((0.93, 0.95), (0.94, 0.96), "level: their seeds overlap"),
        ((0.95,), (0.95,), "level: their seeds overlap"),
    ],
)
def test_who_is_ahead_needs_every_seed(pruned, scratch, said):
    assert said in who_is_ahead([side("pruned", *pruned), side("scratch", *scratch)])


@pytest.mark.parametrize("share", ["0", "1", "-1", "nan", "half"])
def test_a_share_that_is_none_is_refused(share, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["prune", str(tmp_path), "-o", str(tmp_path / "p"), f"--keep={share}"])

    assert caught.value.code == 64
    assert "--keep" in capsys.readouterr().err

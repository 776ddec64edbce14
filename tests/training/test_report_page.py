"""The page of a model, from small captures through the bundle that ships."""

from __future__ import annotations

import json
import re

import pytest

from tests.training.test_captures import SPLITS, write_data, write_lab
from training.captures import find_captures

pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from contracts.bundle import default_bundle
from detection.onnx_engine import OnnxEngine
from training.commands import PARTS
from training.report_page import Inputs, write_page

EVASIONS = {
    "rows": [
        {
            "evasion": kind, "level": level, "effort": {"packets": 1.0, "octets": 1.0, "seconds": 1.0},
            "windows_attack": 5, "tpr": 0.5, "attacks": 2, "attacks_alerted": 1, "first_alert_s": None,
        }
        for kind, level in (("none", "as recorded"), ("pad", "+16 octets"))
    ]
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("page")
    for seed in (1, 3):
        write_lab(home / "lab", seed, ports=range(seed, seed + 40))
    write_data(home, "scans/a.pcap", ports=[80, 81])
    (home / "evasion.json").write_text(json.dumps(EVASIONS))
    inputs = Inputs(
        command="penstock-train page",
        files={"adversaries": home / "evasion.json"},
        histories={"seed 1": [{"epoch": 0, "train_loss": 1.0, "validation_loss": 0.9}]},
    )
    bundle = default_bundle()
    captures = find_captures(SPLITS, shared=home, lab=home / "lab")
    write_page(home / "out", bundle=bundle, engine=OnnxEngine(bundle), captures=captures, inputs=inputs)
    return home / "out"


def page_of(folder):
    (page,) = folder.glob("*.md")
    return page.read_text()


def test_every_plot_the_page_shows_is_beside_it_and_none_is_left_over(folder):
    shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page_of(folder))

    assert sorted(shown) == sorted(path.name for path in folder.glob("*.png"))
    assert any("convergence" in name for name in shown)
    assert any("evasion" in name for name in shown)


def test_a_part_nobody_measured_says_which_command_would(folder):
    page = page_of(folder)

    absent = [key for key, command in PARTS.items() if f"Not measured for this page: `{command}`" in page]
    assert absent == ["compare", "unknown", "devices"]
    assert "| pad | +16 octets |" in page


def test_every_table_is_whole(folder):
    tables = re.findall(r"(?:^\|.*\n)+", page_of(folder), re.MULTILINE)

    widths = [{line.count("|") for line in table.splitlines()} for table in tables]
    assert len(tables) > 8
    assert all(len(each) == 1 for each in widths)


def test_the_figures_stand_beside_it_as_json(folder):
    (told,) = [json.loads(path.read_text()) for path in folder.glob("*.json")]

    assert set(told["sides"]) == {"validation", "test", "evaluation"}
    assert set(told["probes"]) == {"importance", "attention", "columns", "leakage"}

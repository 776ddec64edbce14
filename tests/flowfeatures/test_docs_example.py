"""The page of the library: every block of Python in it runs, prints what it says, and every setting has its default."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import flowfeatures
from flowfeatures import FLOW_META, FlowSettings
from tests.flowfeatures.packets import pcap_bytes
from tests.flowfeatures.tables import FRAMES

PAGE = Path(__file__).parents[2] / "docs" / "flowfeatures.md"
TEXT = PAGE.read_text()
_FENCED = re.finditer(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
BLOCKS = {TEXT[: match.start(1)].count("\n") + 1: match[1] for match in _FENCED}
"""By the line of the page at which they begin."""


@pytest.fixture
def captures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that holds the captures which the page names."""
    (tmp_path / "capture.pcap").write_bytes(pcap_bytes(FRAMES))
    (tmp_path / "cut.pcap").write_bytes(pcap_bytes(FRAMES) + bytes(5))  # five octets of one more header
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", BLOCKS)
def test_a_block_of_the_page_runs_and_prints_what_it_says(captures, capsys, line: int):
    block = BLOCKS[line]
    for module, needed in (("pandas", "to_pandas"), ("pyarrow", "write_parquet")):
        if needed in block:
            pytest.importorskip(module, reason=f"{module} is not installed: pip install 'penstock[tables]'")
    said = re.findall(r"^ *print\(.*\)  # (.+)$", block, re.MULTILINE)

    exec(compile("\n" * (line - 1) + block, str(PAGE), "exec"), {"__name__": "example"})

    assert capsys.readouterr().out.splitlines() == said
    assert said, "a block that prints nothing shows nothing"


def test_a_frame_takes_five_lines():
    first = next(iter(BLOCKS.values())).split("print")[0]

    assert "to_pandas(" in first
    assert len([line for line in first.splitlines() if line]) <= 5


def test_every_setting_stands_there_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.,]+|True|False) \|", TEXT, re.MULTILINE))

    told = {name: ast.literal_eval(value.replace(",", "_")) for name, value in rows.items()}

    assert told == {field.name: field.default for field in fields(FlowSettings)}


def test_every_field_of_a_record_and_every_error_is_named():
    errors = [name for name in flowfeatures.__all__ if isinstance(getattr(flowfeatures, name), type)]
    errors = [name for name in errors if issubclass(getattr(flowfeatures, name), Exception)]

    missing = [name for name in (*FLOW_META.names, *errors) if f"`{name}`" not in TEXT]

    assert len(errors) >= 6
    assert missing == []

"""The options of `penstock features` and the rows it writes."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent import cli
from agent.commands.features import flow_settings
from contracts.errors import UsageError
from flowfeatures import FlowSettings
from tests.e2e.scan import write_scan


def settings_of(*options: str) -> FlowSettings:
    return flow_settings(cli.build_parser(["features"]).parse_args(["features", "x.pcap", "-o", "-", *options]))


def test_without_options_the_settings_are_the_defaults():
    assert settings_of() == FlowSettings()


def test_the_idle_timeout_sets_all_three_idle_ones():
    assert settings_of("--idle-timeout", "30") == replace(
        FlowSettings(), tcp_idle_timeout_s=30.0, other_idle_timeout_s=30.0, half_open_timeout_s=30.0
    )


def test_a_half_open_timeout_beside_it_wins():
    settings = settings_of("--idle-timeout", "30", "--half-open-timeout", "3")

    assert (settings.tcp_idle_timeout_s, settings.half_open_timeout_s) == (30.0, 3.0)


def test_the_others_set_one_each():
    settings = settings_of("--active-timeout", "7", "--linger", "inf", "--partials", "--vlan-in-key")

    assert settings == replace(FlowSettings(), active_timeout_s=7.0, linger_s=math.inf, partials=True, vlan_in_key=True)


def test_compat_wtmc_sets_the_four_timeouts_and_one_beside_it_wins():
    assert settings_of("--compat", "wtmc") == FlowSettings.wtmc()
    assert settings_of("--compat", "wtmc", "--linger", "1") == replace(FlowSettings.wtmc(), linger_s=1.0)


def test_a_time_beyond_all_reason_is_a_usage_error():
    with pytest.raises(UsageError, match="active_timeout_s"):
        settings_of("--active-timeout", "1e12")


def test_a_row_per_flow_and_several_captures_as_if_they_were_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    capture = write_scan(tmp_path / "scan.pcap")

    code = cli.main(["features", str(capture), "-o", str(tmp_path / "flows.csv")])

    rows = list(csv.DictReader((tmp_path / "flows.csv").open()))
    assert code == 0
    assert len(rows) == 60
    assert capsys.readouterr().out == f"{tmp_path}/flows.csv: 60 records of 240 packets, 0 not decoded\n"
    assert sum(int(row["RST Flag Count"]) for row in rows) == 40


def test_a_name_that_ends_in_parquet_is_written_as_parquet(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'penstock[tables]'")
    scan = str(write_scan(tmp_path / "scan.pcap"))
    outputs = [tmp_path / "flows.csv", tmp_path / "flows.PARQUET"]

    codes = [cli.main(["features", scan, "-o", str(output)]) for output in outputs]

    with outputs[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table(outputs[1])
    assert codes == [0, 0]
    assert table.num_rows == len(rows) > 1
    assert table.column_names == list(rows[0])
    assert table["Flow ID"].to_pylist() == [row["Flow ID"] for row in rows]


def test_without_pyarrow_parquet_ends_with_69_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    scan = str(write_scan(tmp_path / "scan.pcap"))

    code = cli.main(["features", scan, "-o", str(tmp_path / "flows.parquet")])

    assert code == 69
    assert "pip install 'penstock[tables]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scan.pcap"]

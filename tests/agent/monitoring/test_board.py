"""Board sensors from faked trees of an original Nano, an Orin and a machine that has none; hostile files; ourselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.monitoring.board import MAX_MODEL, MAX_SENSORS, Board, BoardWatch

NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64",
    "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=5W >\n",
    "sys/class/thermal/thermal_zone0/type": "AO-therm\n",
    "sys/class/thermal/thermal_zone0/temp": "45500\n",
    "sys/class/thermal/thermal_zone1/type": "CPU-therm\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/devices/57000000.gpu/load": "731\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "2750\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_1": "POM_5V_GPU\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power1_input": "82\n",
}
HWMON = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "sys/devices/17000000.ga10b/load": "0",
    f"{HWMON}/in1_label": "VDD_IN\n",
    f"{HWMON}/in1_input": "5000\n",
    f"{HWMON}/curr1_input": "900\n",
    f"{HWMON}/in2_label": "NC\n",
    f"{HWMON}/in2_input": "5000\n",
    f"{HWMON}/curr2_input": "1\n",
    f"{HWMON}/in7_label": "sum of shunt voltages\n",
    f"{HWMON}/in7_input": "5000\n",
    f"{HWMON}/curr7_input": "1\n",
}


@pytest.fixture
def plant(tmp_path: Path) -> Callable[[dict[str, str | bytes]], Path]:
    def plant_(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return plant_


def test_an_original_nano_gives_milliwatts_and_temperatures_in_base_units(plant):
    facts = Board(plant(NANO)).look()

    assert (facts.model, facts.l4t, facts.power_mode) == ("NVIDIA Jetson Nano Developer Kit", "R32.7.1", "MAXN")
    assert [(each.name, each.value) for each in facts.power_watts] == [("POM_5V_IN", 2.75), ("POM_5V_GPU", 0.082)]
    assert facts.gpu_load_ratio == 0.731


def test_a_zone_that_is_switched_off_is_no_temperature(plant):
    facts = Board(plant(NANO)).look()

    assert [(each.name, each.value) for each in facts.temperatures_celsius] == [("AO-therm", 45.5)]


def test_an_orin_gives_volts_times_amperes_and_leaves_out_unused_rails_and_sums(plant):
    facts = Board(plant(ORIN)).look()

    assert [(each.name, each.value) for each in facts.power_watts] == [("VDD_IN", pytest.approx(4.5))]
    assert (facts.l4t, facts.gpu_load_ratio) == ("R36.4.3", 0.0)


def test_a_monitor_found_under_its_bus_and_its_driver_counts_once(plant):
    root = plant({**ORIN, "sys/bus/i2c/drivers/ina3221/1-0040/name": "ina3221\n"})
    (root / "sys/bus/i2c/devices").mkdir()
    (root / "sys/bus/i2c/devices/1-0040").symlink_to(root / "sys/bus/i2c/drivers/ina3221/1-0040")

    assert len(Board(root).look().power_watts) == 1


def test_a_mode_that_no_table_names_is_a_number(plant):
    assert Board(plant({"var/lib/nvpmodel/status": "pmode:0002"})).look().power_mode == "2"


def test_a_machine_without_sensors_has_none_and_that_is_no_error(tmp_path: Path):
    facts = Board(tmp_path).look()

    assert (facts.temperatures_celsius, facts.power_watts, facts.gpu_load_ratio) == ((), (), None)
    assert (facts.memory_bytes, facts.cpu_seconds, facts.unreadable) == (None, None, 0)


@pytest.mark.parametrize("content", [b"", b"hot\n", b"\xff\xfe", b"9" * 5000, b"1e5", b"0x10"])
def test_a_sensor_that_says_no_number_is_counted_and_left_out(plant, content: bytes):
    board = Board(plant({"sys/class/thermal/thermal_zone0/temp": content, "sys/class/thermal/thermal_zone0/type": "a"}))

    facts = board.look()

    assert (facts.temperatures_celsius, facts.unreadable) == ((), 1)
    assert board.look().unreadable == 2


def test_a_sensor_that_is_a_pipe_is_not_waited_for(plant):
    root = plant({"sys/class/thermal/thermal_zone0/type": "a"})
    os.mkfifo(root / "sys/class/thermal/thermal_zone0/temp")

    assert Board(root).look().unreadable == 1


def test_two_zones_of_one_name_get_names_of_their_own_and_very_many_are_cut(plant):
    zones = {}
    for number in range(3 * MAX_SENSORS):
        zones[f"sys/class/thermal/thermal_zone{number}/type"] = "cpu\x1b[2J" + "x" * 100
        zones[f"sys/class/thermal/thermal_zone{number}/temp"] = "40000"

    names = [each.name for each in Board(plant(zones)).look().temperatures_celsius]

    assert len(names) == len(set(names)) == MAX_SENSORS
    assert all(name.isprintable() and len(name) < 50 for name in names)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "268435456\n"}, 256 << 20),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1048576\n"}, 1 << 20),
        (
            {"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"},
            None,
        ),
        ({"proc/self/cgroup": "nonsense"}, None),
    ],
)
def test_the_memory_limit_of_both_kinds_of_control_groups_is_found(plant, files: dict[str, str], limit: int | None):
    assert Board(plant(files)).look().memory_limit_bytes == limit


def test_this_process_on_this_machine_has_memory_time_files_and_threads():
    facts = Board().look()

    assert facts.memory_bytes > 1 << 20
    assert facts.memory_peak_bytes >= facts.memory_bytes
    assert facts.cpu_seconds > 0
    assert facts.open_files >= 3
    assert facts.threads >= 1


def test_a_watch_shows_what_it_saw_last_and_ends_when_told(plant):
    watch = BoardWatch(plant(NANO), every_s=0.001)

    watch.start()
    first, until_s = watch.latest, time.monotonic() + 120
    while watch.latest is first:
        assert time.monotonic() < until_s
        time.sleep(0.001)
    watch.stop()

    assert watch.latest.l4t == "R32.7.1"
    assert not watch._thread.is_alive()


def test_a_long_name_of_a_board_is_kept_whole_and_one_without_an_end_is_not(plant):
    kit = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"

    whole = Board(plant({"proc/device-tree/model": f"{kit}\0"})).look().model
    cut = Board(plant({"proc/device-tree/model": "x" * 4096})).look().model
    hostile = Board(plant({"proc/device-tree/model": "a\x1b[2Jb\0"})).look().model

    assert whole == kit
    assert len(cut) == MAX_MODEL
    assert hostile == "a\\x1b[2Jb"

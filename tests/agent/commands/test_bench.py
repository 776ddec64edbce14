"""`penstock bench`: what is timed, who computed it, what the board told, and the settings that come of it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.commands import bench, check_config
from agent.config import AgentConfig
from agent.measure import timing
from agent.measure.advice import advise
from agent.measure.device import fingerprint, moment
from agent.measure.plot import can_plot
from agent.measure.timing import Contender, Result, measure
from agent.monitoring.facts import Reading
from contracts.errors import ConfigError
from contracts.program import Parser, run_program
from detection.engine import Scores
from detection.onnx_engine import OnnxEngine
from detection.tensorrt_client import TensorrtEngine
from tests.detection.onnx_model import C, F, model_bytes
from tests.detection.tensorrt_process import Clock, WorkerProcess, build_cudart, until_trusted, windows
from tests.detection.windows import make_bundle

HWMON = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=1 NAME=25W >\n",
    "proc/loadavg": "0.25 0.10 0.05 1/200 1234\n",
    "proc/meminfo": "MemTotal:        7802312 kB\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
    "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1510400\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "1510400\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1510400\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "47500\n",
    f"{HWMON}/in1_label": "VDD_IN\n",
    f"{HWMON}/in1_input": "5000\n",
    f"{HWMON}/curr1_input": "900\n",
    f"{HWMON}/in2_label": "VDD_CPU_GPU_CV\n",
    f"{HWMON}/in2_input": "5000\n",
    f"{HWMON}/curr2_input": "200\n",
}
NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "921600\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "102000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1479000\n",
    "sys/class/devfreq/57000000.gpu/cur_freq": "76800000\n",
    "sys/class/devfreq/57000000.gpu/min_freq": "76800000\n",
    "sys/class/devfreq/57000000.gpu/max_freq": "921600000\n",
    "sys/class/devfreq/57000000.gpu/governor": "nvhost_podgov\n",
    "sys/class/thermal/thermal_zone1/type": "CPU-therm\n",
    "sys/class/thermal/thermal_zone1/temp": "41500\n",
    "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN\n",
    "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "2750\n",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


class Recorded:
    """An engine that notes which batches it was asked for, in order."""

    name, provider = "recorded", "CPUExecutionProvider"

    def __init__(self, label: str, asked: list[tuple[str, int]]) -> None:
        self._label, self._asked = label, asked

    def score(self, windows: np.ndarray, mask: np.ndarray) -> Scores:
        assert len(windows) == len(mask)
        self._asked.append((self._label, len(windows)))
        return Scores(*(np.zeros((len(windows), 1), np.float32),) * 4)


def no_rails() -> Sequence[Reading]:
    return ()


# -- timing ---------------------------------------------------------------------------------------------------------


def test_every_cell_gets_its_calls_in_rounds_that_mix_the_cells():
    asked: list[tuple[str, int]] = []
    contenders = [Contender(name, Recorded(name, asked)) for name in ("a", "b")]

    results = measure(contenders, *windows(64), batches=[1, 8], calls=1003, rails=no_rails)

    assert [(each.engine, each.batch, each.calls) for each in results] == [
        ("a", 1, 1003), ("a", 8, 1003), ("b", 1, 1003), ("b", 8, 1003),
    ]  # fmt: skip
    timed = asked[-4 * 1003 :]
    assert set(Counter(timed).values()) == {1003}
    runs = sum(before != after for before, after in pairwise(timed)) + 1
    assert runs >= 30  # ten rounds of four slices; two of a cell may stand next to each other between rounds


def test_a_call_is_timed_and_what_gives_it_its_windows_is_not(monkeypatch: pytest.MonkeyPatch):
    wall_ns, cpu_ns = [0], [0]
    monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: wall_ns[0])
    monkeypatch.setattr(timing.time, "thread_time_ns", lambda: cpu_ns[0])

    def passes(wall: int, cpu: int) -> None:
        wall_ns[0] += wall
        cpu_ns[0] += cpu

    class Slow(Recorded):
        def score(self, windows: np.ndarray, mask: np.ndarray) -> Scores:
            passes(len(windows) * 100, len(windows) * 60)
            return super().score(windows, mask)

    def inputs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in (1, 2, 3):
            passes(1_000_000, 1_000_000)
            yield windows(batch)
        passes(1_000_000, 1_000_000)

    wall, cpu = timing.timed(Slow("a", []), inputs())

    assert (wall.tolist(), cpu.tolist()) == ([100, 200, 300], [60, 120, 180])
    assert [each.size for each in timing.timed(Slow("a", []), ())] == [0, 0]


def test_percentiles_are_in_order_and_the_rarest_wants_a_thousand_calls():
    contenders = [Contender("a", Recorded("a", []))]

    (many,) = measure(contenders, *windows(8), batches=[4], calls=1000, rails=no_rails)
    (few,) = measure(contenders, *windows(8), batches=[4], calls=999, rails=no_rails)

    assert 0 < many.p50_ms <= many.p99_ms <= many.p999_ms
    assert many.p50_low_ms <= many.p50_ms <= many.p50_high_ms
    assert few.p999_ms is None


def test_energy_is_the_input_rails_share_and_unmeasured_without_one():
    contenders = [Contender("a", Recorded("a", []))]
    rails = [Reading(name="VDD_IN", value=4.5), Reading(name="VDD_CPU_GPU_CV", value=1.0)]

    (with_input,) = measure(contenders, *windows(8), batches=[4], calls=20, rails=lambda: rails)
    (without,) = measure(contenders, *windows(8), batches=[4], calls=20, rails=lambda: rails[1:])
    (none,) = measure(contenders, *windows(8), batches=[4], calls=20, rails=no_rails)

    assert with_input.watts == {"VDD_IN": 4.5, "VDD_CPU_GPU_CV": 1.0}
    assert with_input.joules_per_window == pytest.approx(4.5 / with_input.windows_per_s)
    assert (without.watts, without.joules_per_window) == ({"VDD_CPU_GPU_CV": 1.0}, None)
    assert (none.watts, none.joules_per_window) == (None, None)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cudart(tmp_path_factory.mktemp("cudart"))


def test_the_worker_is_timed_while_it_scores_and_not_when_the_cpu_had_to(tmp_path: Path, libraries: Path):
    """A real worker process over a real socket, with the stand-in for TensorRT."""
    pytest.importorskip("onnxruntime")
    model = model_bytes(np.random.default_rng(7).normal(size=(F, C)).astype(np.float32) / 100)
    cpu = OnnxEngine(replace(make_bundle(), path=Path("somewhere"), model=model))
    with WorkerProcess(tmp_path / "worker", libraries) as worker:
        engine = TensorrtEngine(
            cpu, model, socket_path=worker.socket_path, probe=windows(32), deadline_s=10.0, clock=Clock()
        )
        until_trusted(engine)
        (alive,) = measure([Contender("tensorrt", engine)], *windows(8), batches=[2], calls=30, rails=no_rails)
    (dead,) = measure([Contender("tensorrt", engine)], *windows(8), batches=[2], calls=30, rails=no_rails)
    engine.close()

    assert (alive.trouble, alive.calls) == ("", 30)
    assert (dead.p50_ms, dead.calls) == (None, 0)
    assert "the CPU had to score" in dead.trouble


# -- the device -----------------------------------------------------------------------------------------------------


def test_an_orin_tells_its_mode_clocks_rails_and_temperatures(tmp_path: Path):
    root = plant(tmp_path, ORIN)

    device, now = fingerprint(root), moment(root)

    assert (device["board"], device["l4t"], device["power_mode"], device["memory_mib"]) == (
        "NVIDIA Jetson Orin Nano Developer Kit", "R36.4.3", "25W", 7619,
    )  # fmt: skip
    (cpu,), (gpu,) = device["cpu_clocks"], device["gpu_clocks"]
    assert (cpu["governor"], cpu["mhz"]["now"], cpu["locked"]) == ("schedutil", 1510.4, True)
    assert (gpu["governor"], gpu["mhz"]["most"], gpu["locked"]) == ("nvhost_podgov", 1020.0, False)
    assert now["power_watts"] == {"VDD_IN": pytest.approx(4.5), "VDD_CPU_GPU_CV": pytest.approx(1.0)}
    assert (now["temperatures_celsius"], now["load_1min"]) == ({"cpu-thermal": 47.5}, 0.25)


def test_a_machine_that_tells_nothing_has_none_and_not_zero(tmp_path: Path):
    device, now = fingerprint(tmp_path), moment(tmp_path)

    assert [device[key] for key in ("board", "l4t", "power_mode", "cpu_clocks", "gpu_clocks", "memory_mib")] == [
        None
    ] * 6
    assert now == {"temperatures_celsius": None, "power_watts": None, "load_1min": None}


# -- advice ---------------------------------------------------------------------------------------------------------


def row(engine: str, batch: int, p99_ms: float, windows_per_s: float) -> Result:
    return Result(engine=engine, batch=batch, calls=1000, p50_ms=p99_ms, p99_ms=p99_ms, windows_per_s=windows_per_s)


def test_the_largest_batch_that_leaves_half_the_deadline_is_taken():
    advice = advise([row("cpu", 1, 1, 1), row("cpu", 64, 25.0, 9), row("cpu", 256, 25.1, 99)], deadline_ms=50)

    assert (advice.engine, advice.batch_windows, advice.is_slow) == ("cpu", 64, False)


def test_another_engine_must_be_a_tenth_better_than_the_cpu():
    cpu = row("cpu", 256, 5, 1000)

    assert advise([cpu, row("tensorrt", 256, 5, 1100)], deadline_ms=50).engine == "cpu"
    assert advise([cpu, row("tensorrt", 256, 5, 1101)], deadline_ms=50).engine == "tensorrt"


def test_an_engine_that_keeps_the_deadline_beats_one_that_does_not():
    slow = row("cpu", 1, 26, 5000)

    assert advise([slow, row("tensorrt", 1, 25, 40)], deadline_ms=50).engine == "tensorrt"
    assert advise([slow], deadline_ms=50).is_slow


def test_what_the_agent_cannot_be_set_to_is_never_recommended():
    faster = [row("CUDAExecutionProvider", 256, 1, 1e6), row("cpu", 1, 1, 1)]

    assert advise(faster, deadline_ms=50).engine == "cpu"
    assert advise(faster[:1], deadline_ms=50) is None
    assert advise([Result(engine="tensorrt", batch=0, trouble="no worker")], deadline_ms=50) is None


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def bench_of(*arguments: str) -> int:
    pytest.importorskip("onnxruntime")
    parser = Parser(prog="penstock bench")
    bench.add_arguments(parser)
    return run_program("penstock", lambda: bench.run(parser.parse_args(["--calls", "20", "--batch", "1", *arguments])))


def test_json_holds_the_board_both_ends_and_every_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = plant(tmp_path, ORIN)

    code = bench_of("--json", "--batch", "16", "--root", str(root), "--tensorrt-socket", str(tmp_path / "none"))

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (told["device"]["power_mode"], told["power"]) == ("25W", "watts")
    assert told["before"]["temperatures_celsius"] == told["after"]["temperatures_celsius"] == {"cpu-thermal": 47.5}
    assert [(each["engine"], each["batch"]) for each in told["results"] if each["engine"] == "cpu"] == [
        ("cpu", 1), ("cpu", 16),
    ]  # fmt: skip
    assert all(each["joules_per_window"] > 0 for each in told["results"] if each["engine"] == "cpu")
    assert "no worker listens" in next(each["trouble"] for each in told["results"] if each["engine"] == "tensorrt")


def test_a_nano_shows_its_rail_and_mode_and_another_machine_says_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bench_of("--root", str(plant(tmp_path / "nano", NANO)))
    nano = capsys.readouterr().out
    (tmp_path / "nothing").mkdir()
    bench_of("--root", str(tmp_path / "nothing"))
    other = capsys.readouterr().out

    assert "NVIDIA Jetson Nano Developer Kit" in nano
    assert "mode MAXN" in nano
    assert "clocks: cpu 922 MHz (102 .. 1,479, schedutil), gpu 77 MHz (77 .. 922, nvhost_podgov)" in nano
    assert "temperatures: CPU-therm 41.5 .. 41.5 C" in nano
    assert re.search(r"^cpu +1 .* [\d.]+$", nano, re.MULTILINE)  # mJ a window
    assert re.search(r"^cpu +1 .* not measured$", other, re.MULTILINE)
    assert "clocks: not told" in other
    assert "power: POM_5V_IN 2.8 .. 2.8 W" in nano
    assert "power: not measured" in other
    assert "temperatures: not measured" in other


def test_an_orin_shows_rails_mode_and_clocks_with_energy_per_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kit = {"proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"}

    bench_of("--root", str(plant(tmp_path, ORIN | kit)))
    orin = capsys.readouterr().out

    assert orin.startswith("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, ")
    assert "mode 25W, governor schedutil" in orin
    assert "clocks: cpu 1,510 MHz (locked, schedutil), gpu 306 MHz (306 .. 1,020, nvhost_podgov)" in orin
    assert "power: VDD_IN 4.5 .. 4.5 W, VDD_CPU_GPU_CV 1.0 .. 1.0 W" in orin
    assert re.search(r"^cpu +1 .* [\d.]+$", orin, re.MULTILINE)


def test_the_configured_deadline_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "agent.toml"
    file.write_text('[capture]\ninterfaces = ["lo"]\n[scoring]\ndeadline_ms = 200\n')

    bench_of("--json", "--config", str(file))
    told = json.loads(capsys.readouterr().out)

    assert told["deadline_ms"] == 200
    assert re.search(r"99 % of calls (within|more than) 100 ms", told["advice"]["reason"])


def test_without_a_configuration_the_default_deadline_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    default = AgentConfig.model_validate({"capture": {"interfaces": ["lo"]}}).scoring.deadline_ms
    wrong = tmp_path / "agent.toml"
    wrong.write_text("[x]\n")

    monkeypatch.setattr(bench, "default_file", lambda: None)
    bench_of("--json")
    none = capsys.readouterr()
    monkeypatch.setattr(bench, "default_file", lambda: wrong)
    bench_of("--json")
    broken = capsys.readouterr()
    named = bench_of("--json", "--config", str(wrong))

    assert json.loads(none.out)["deadline_ms"] == json.loads(broken.out)["deadline_ms"] == default
    assert "measured against the default deadline" in broken.err
    assert none.err == ""
    assert named == ConfigError.exit_code


def test_files_are_written_whole_and_the_picture_where_it_can_be_drawn(tmp_path: Path):
    code = bench_of("-o", str(tmp_path / "out"))

    assert code == 0
    assert json.loads((tmp_path / "out/bench.json").read_text())["bundle"]["release"] >= 1
    if can_plot():
        assert (tmp_path / "out/bench.png").read_bytes().startswith(b"\x89PNG")


def test_apply_writes_settings_that_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "agent.toml"
    file.write_text('[capture]\ninterfaces = ["lo"]\n[scoring]\nbatch_windows = 4\n')

    code = bench_of("--apply", "--config", str(file))

    assert code == 0
    written = tmp_path / "conf.d/50-bench.toml"
    assert written.read_text().splitlines()[1:] == ["[scoring]", 'engine = "cpu"', "batch_windows = 1"]
    assert written.stat().st_mode & 0o777 == 0o644
    assert "systemctl restart penstock" in capsys.readouterr().err  # and what bench printed is read away
    parser = Parser(prog="penstock check-config")
    check_config.add_arguments(parser)
    checked = run_program("penstock", lambda: check_config.run(parser.parse_args([str(file), "--json"])))
    assert checked == 0
    assert json.loads(capsys.readouterr().out)["config"]["scoring"]["batch_windows"] == 1


def test_apply_without_a_configuration_or_with_a_wrong_one_measures_nothing(tmp_path: Path):
    wrong = tmp_path / "agent.toml"
    wrong.write_text("[x]\n")

    codes = [bench_of("--apply", "--config", str(tmp_path / "none.toml")), bench_of("--apply", "--config", str(wrong))]

    assert codes == [78, 78]
    assert not (tmp_path / "conf.d").exists()


def test_apply_takes_back_what_does_not_hold_with_the_rest(tmp_path: Path):
    file = tmp_path / "agent.toml"
    file.write_text('[capture]\ninterfaces = ["lo"]\n[scoring]\nmax_waiting_windows = 2\n')
    (tmp_path / "conf.d").mkdir()
    before = tmp_path / "conf.d/50-bench.toml"
    before.write_text("[scoring]\nbatch_windows = 1\n")
    (tmp_path / "conf.d/60-mine.toml").write_text("[scoring]\nnonsense = 1\n")
    advice = advise([row("cpu", 256, 1, 1)], deadline_ms=50)

    with pytest.raises(ConfigError):
        bench.apply(file, advice)

    assert before.read_text() == "[scoring]\nbatch_windows = 1\n"


@pytest.mark.parametrize("arguments", [["--batch", "0"], ["--batch", "257"], ["--calls", "9"], ["--batch", "x"]])
def test_numbers_that_cannot_be_are_refused(arguments: list[str]):
    parser = Parser(prog="penstock bench")
    bench.add_arguments(parser)

    with pytest.raises(SystemExit) as caught:
        parser.parse_args(arguments)

    assert caught.value.code == 64

import json
import os
import sys
import threading

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings

from agent.delivery.eve import EveFile
from contracts.alert import AlertDevice
from contracts.errors import OutputError
from contracts.eve import MAX_LINE_BYTES, eve_schema, render_eve
from tests.alerts import extreme_alerts, make_alert

OURS = jsonschema.Draft202012Validator(eve_schema())


def named(name, **changes):
    return make_alert(device=AlertDevice(ip="10.77.0.66", name=name), **changes)


def penstock(line):
    return json.loads(line)["alert"]["context"]["penstock"]


def test_a_line_is_canonical_so_the_same_alert_gives_the_same_bytes():
    line = render_eve(make_alert())

    assert line == render_eve(make_alert())
    assert line == json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    assert line.isascii()
    assert 800 < len(line) < 1_400


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(alert=extreme_alerts())
@example(named("\0" * 1024, in_iface='"' * 15))
@example(named("\U0001f47e" * 1024))
def test_no_alert_makes_a_line_of_2048_bytes_or_one_our_schema_refuses(alert):
    line = render_eve(alert)

    assert len(line.encode()) <= MAX_LINE_BYTES == 2_047
    assert "\n" not in line
    OURS.validate(json.loads(line))


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(alert=extreme_alerts())
def test_every_line_is_valid_eve_by_suricatas_own_schema(shared, alert):
    schema = json.loads(shared("schemas/suricata-eve.schema.json").read_text())

    jsonschema.Draft202012Validator(schema).validate(json.loads(render_eve(alert)))


def test_a_name_is_cut_just_as_far_as_the_line_needs():
    room = MAX_LINE_BYTES - len(render_eve(named("n"))) + 1

    assert penstock(render_eve(named("n" * room)))["device"]["name"] == "n" * room
    assert len(render_eve(named("n" * room))) == MAX_LINE_BYTES
    assert penstock(render_eve(named("n" * (room + 1))))["device"]["name"] == "n" * (room - 3) + "..."
    assert len(render_eve(named("n" * (room + 1)))) == MAX_LINE_BYTES


def test_what_rules_match_on_is_never_shortened():
    plain, long = (json.loads(render_eve(alert)) for alert in (make_alert(), named("\0" * 1024)))

    assert penstock(render_eve(named("\0" * 1024)))["device"]["name"].endswith("...")
    for line in (plain, long):
        line["alert"]["context"]["penstock"].pop("device")
    assert plain == long


def test_line_ends_and_broken_letters_in_a_name_stay_inside_the_line():
    line = render_eve(named("a\nb\u2028c\x85d"))

    assert len(line.splitlines()) == 1
    assert penstock(line)["device"]["name"] == "a\nb\u2028c\x85d"


def test_a_new_file_holds_this_run_alone_and_a_service_adds_to_its_own(tmp_path):
    name = str(tmp_path / "eve.json")
    for append, lines in ((False, ["old"]), (False, ["one", "two"]), (True, ["three"])):
        with EveFile(name, append=append) as file:
            for line in lines:
                file.write(line)

    assert (tmp_path / "eve.json").read_text() == "one\ntwo\nthree\n"


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path):
    with EveFile(str(tmp_path / "eve.json")) as file:
        file.write("first")

        assert (tmp_path / "eve.json").read_text() == "first\n"


def test_a_dash_is_standard_output(capfd):
    print("before")
    with EveFile("-") as file:
        file.write("line")
    print("after")
    sys.stdout.flush()

    assert capfd.readouterr().out == "before\nline\nafter\n"


@pytest.mark.parametrize(("name", "why"), [(".", "Is a directory"), ("no/eve.json", "No such file"), ("a\0b", "null")])
def test_a_file_that_cannot_be_made_is_named_before_anything_is_read(tmp_path, name, why):
    with pytest.raises(OutputError, match=f"eve: .* cannot be written: .*{why}"):
        EveFile(str(tmp_path / name))


def test_a_pipe_without_a_reader_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OutputError, match=r"eve: .*pipe: cannot be written: nobody reads this pipe"):
        EveFile(str(tmp_path / "pipe"))


def test_a_pipe_takes_more_than_it_holds_from_a_slow_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    read = []

    def read_all():
        with open(reading, "rb") as file:
            read.append(file.read())

    with EveFile(str(tmp_path / "pipe")) as file:
        reader = threading.Thread(target=read_all)
        reader.start()
        assert os.get_blocking(file._fd)
        for _ in range(200):
            file.write("x" * 1_999)
    reader.join()

    assert read == [(b"x" * 1_999 + b"\n") * 200]


def test_a_full_disk_is_named_and_leaves_no_half_line(tmp_path, monkeypatch):
    file = EveFile(str(tmp_path / "eve.json"))
    file.write("whole")
    real_write, room = os.write, [3]

    def write(fd, text):
        # The kernel's order: first a short write, then no space at all.
        if not room:
            raise OSError(28, "No space left on device")
        return real_write(fd, text[: room.pop()])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OutputError, match=r"eve\.json: cannot be written: No space left on device"):
        file.write("another")
    monkeypatch.undo()
    file.write("after")
    file.close()

    assert (tmp_path / "eve.json").read_text() == "whole\nafter\n"


def test_a_reader_that_goes_away_is_left_to_the_program(tmp_path):
    reading, writing = os.pipe()
    file = EveFile(f"/dev/fd/{writing}")
    os.close(reading)
    os.close(writing)

    with file, pytest.raises(BrokenPipeError):
        file.write("line")


def test_what_was_written_is_forced_to_disk_where_it_is_a_file_standard_output_too(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: forced.append(os.fstat(fd).st_ino))
    out = (tmp_path / "out").open("w")
    reader, writer = os.pipe()

    with EveFile(str(tmp_path / "eve.json")) as file:
        file.sync()
    for stream in (out, os.fdopen(writer, "w")):
        monkeypatch.setattr(sys, "stdout", stream)
        with EveFile("-") as file:
            file.sync()
        stream.close()
    os.close(reader)

    assert forced == [(tmp_path / name).stat().st_ino for name in ("eve.json", "out")]


def test_a_disk_that_does_not_take_it_is_an_error_of_the_output(tmp_path, monkeypatch):
    def fail(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)

    with EveFile(str(tmp_path / "eve.json")) as file, pytest.raises(OutputError, match="Input/output error"):
        file.sync()

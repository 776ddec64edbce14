"""One gateway: what is learnt from, what the gate lets out, what lies on the desk, what `penstock-finetune` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from contracts.agent_card import TAKEN_FILE, AgentCard, want_run, wanted, write_card
from contracts.anchors import Anchors, pack_anchors
from contracts.classes import BENIGN, HEAD_NAMES, NAMES
from contracts.errors import ConfigError, OutputError
from contracts.head import head_of, read_head
from contracts.samples import SAMPLES_FILE, SampleBook
from contracts.signed import verify
from contracts.update import MAX_UPDATE_BYTES, check_answers, read_update
from detection.state import StateRefused
from federation.aggregator.anchors import choose
from federation.gateway import desk as desk_module
from federation.gateway.conditions import WEEK_US, reason_for, reasons_against
from federation.gateway.desk import Calls, Desk, Learnt
from federation.gateway.gate import Held, refusals
from federation.gateway.identity import own_key
from federation.gateway.labels import Examples, gather
from federation.gateway.program import _parser, main, run
from tests.federation.homes import (
    FALSE_ALARM,
    FLEET,
    NOW_US,
    PARAMETERS,
    attacks,
    bundle,
    call_of,
    demo,
    engine,
    fill,
    near_alarms,
    shipped_thresholds,
    trust,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ROOT = Path(__file__).resolve().parents[2]
OURS = {"fleet": FLEET, "bundle_sha256": bundle().manifest_sha256, "parameters": PARAMETERS}


def gathered(state_dir: Path, verdicts: dict, anchors: Anchors | None = None) -> Examples:
    with SampleBook(state_dir / SAMPLES_FILE) as book:
        return gather(book, verdicts, engine(), window=bundle().manifest.window, now_us=NOW_US, anchors=anchors)


def anchors() -> Anchors:
    windows = demo().where(demo().label >= 0)
    thresholds = shipped_thresholds()
    return choose(windows.embedding, windows.label, head=read_head(bundle().model), thresholds=thresholds)


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "label"), [("benign", BENIGN), ("malicious", NAMES.index("flood"))])
def test_a_verdict_labels_the_windows_of_its_incident(tmp_path: Path, verdict: str, label: int):
    fill(tmp_path, alarm=attacks("flood"), called="flood")

    found = gathered(tmp_path, {FALSE_ALARM: verdict})

    assert set(found.label[found.is_verdict].tolist()) == {label}
    assert found.verdicts == 1
    assert found.is_held[found.is_verdict].sum() == found.is_verdict.sum() // 5
    assert found.is_watched.sum() == 0


def test_windows_of_an_incident_nobody_judged_are_watched_and_never_learnt_from(tmp_path: Path):
    fill(tmp_path, alarm=attacks("flood"), called="flood")

    found = gathered(tmp_path, {})

    assert found.is_watched.sum() == len(attacks("flood"))
    assert not (found.is_learnt & found.is_watched).any()


def test_pseudo_labels_are_old_far_from_the_threshold_and_never_near_an_incident(tmp_path: Path):
    fill(tmp_path)
    with SampleBook(tmp_path / SAMPLES_FILE, write=True) as book:
        (first, *_) = book.read(pinned=False, before_us=NOW_US, limit=1)
        total = len(book)
        near = sum(
            abs(each.due_us - first.due_us) <= 3_600_000_000 and each.device == first.device
            for each in book.read(pinned=False, before_us=NOW_US, limit=10_000)
        )
        book.pin(first.device, FALSE_ALARM, class_index=1, from_us=first.due_us, to_us=first.due_us)

    found = gathered(tmp_path, {})

    assert found.pseudo == total - near
    with SampleBook(tmp_path / SAMPLES_FILE) as book:
        young = gather(book, {}, engine(), window=16, now_us=first.due_us + 10_000_000)
    assert young.pseudo < found.pseudo  # a day's windows are too young then


def test_an_hour_of_a_device_is_held_out_as_a_whole(tmp_path: Path):
    fill(tmp_path)

    found = gathered(tmp_path, {})

    assert 0.1 < found.is_held.mean() < 0.3


# -- gate -------------------------------------------------------------------------------------------------------------

GOOD = Held(
    benign=100,
    benign_over=2,
    attacks=10,
    attacks_over=9,
    watched=5,
    watched_over=5,
    anchors=50,
    anchors_over=50,
    loss=0.1,
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"benign_over": 3}, "3 of 100 held-out benign windows"),
        ({"attacks_over": 8}, "8 of 10 held-out attack windows"),
        ({"watched_over": 4}, "4 of 5 windows of unjudged ones"),
        ({"anchors_over": 49}, "49 of 50 anchors"),
        ({"loss": 0.2}, "hold-out loss 0.2"),
        ({"loss": float("nan")}, "hold-out loss nan"),
    ],
)
def test_the_gate_refuses_what_is_worse_by_one(change: dict, said: str):
    after = Held(**{**vars(GOOD), **change})

    assert said in next(refusals(before=GOOD, after=after))
    assert list(refusals(before=GOOD, after=GOOD)) == []


# -- when -------------------------------------------------------------------------------------------------------------


def test_a_hot_loaded_or_battery_driven_board_waits(tmp_path: Path):
    for name, text in (
        ("sys/class/thermal/thermal_zone0/temp", "75000\n"),
        ("sys/class/thermal/thermal_zone1/temp", "-256000\n"),
        ("proc/loadavg", "0.10 3.20 1.00 1/100 1000\n"),
        ("sys/class/power_supply/BAT0/status", "Discharging\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert reasons_against(tmp_path, cores=4) == [
        "the board has 75 C, wanted below 75", "the load is 3.2 on 4 cores, wanted below 3.2",
        "the board runs on battery",
    ]  # fmt: skip
    assert reasons_against(tmp_path / "elsewhere", cores=4) == []


def test_there_is_something_to_learn_with_other_verdicts_or_after_a_week():
    same = {"verdicts": 2, "verdicts_before": 2, "learnt_us": NOW_US}

    assert reason_for(**same, now_us=NOW_US + WEEK_US - 1) is None
    assert reason_for(**same, now_us=NOW_US + WEEK_US) == "a week since it last learnt"
    assert "3 judged" in str(reason_for(**{**same, "verdicts": 3}, now_us=NOW_US))


# -- the key ----------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path):
    first = own_key(tmp_path / "federation")

    second = own_key(tmp_path / "federation")

    assert second.private_bytes_raw() == first.private_bytes_raw()
    assert (tmp_path / "federation" / "key.pem").stat().st_mode & 0o777 == 0o600
    public = load_pem_public_key((tmp_path / "federation" / "key.pub").read_bytes())
    assert public.public_bytes_raw() == first.public_key().public_bytes_raw()
    (tmp_path / "federation" / "key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644"):
        own_key(tmp_path / "federation")


# -- the desk ---------------------------------------------------------------------------------------------------------


def learnt(**changes: object) -> Learnt:
    told: dict[str, object] = {
        "round": 3, "call_sha256": "c" * 64, "bundle_sha256": "b" * 64, "update": "dXBkYXRl", "learnt_us": NOW_US,
    }  # fmt: skip
    return Learnt(**{**told, **changes})


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_wherever_the_power_goes_the_same_octets_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
):
    desk, calls, write = Desk(tmp_path), [], desk_module.write_whole

    def dying(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == fails_at:
            raise OutputError("the power is gone")
        write(path, content)

    monkeypatch.setattr(desk_module, "write_whole", dying)
    with pytest.raises(OutputError):
        desk.hand_over(learnt())
    monkeypatch.setattr(desk_module, "write_whole", write)
    before = desk.learnt()

    path = desk.catch_up(before)

    assert before.round == (0 if fails_at == 1 else 3)
    if fails_at > 1:
        assert path.read_bytes() == b"update"
        assert desk.learnt().is_handed


@pytest.mark.parametrize(
    ("changes", "known", "why"),
    [
        ({"fleet": "others"}, {}, "fleet"),
        ({"bundle_sha256": "0" * 64}, {}, "base"),
        ({"round": 2}, {"round": 3}, "expired round"),
        ({"round": 3}, {"round": 3, "call_sha256": "c" * 64}, "expired round"),
        ({"opened_us": 1, "deadline_us": NOW_US}, {}, "expired round"),
    ],
)
def test_calls_that_are_old_or_for_others_are_refused(tmp_path: Path, changes: dict, known: dict, why: str):
    desk = Desk(tmp_path)
    desk.inbox.mkdir(parents=True)
    (desk.inbox / "1.call").write_bytes(call_of(KEY, **changes)[0])

    found = desk.newest_call([KEY.public_key()], learnt=Learnt(**known), now_us=NOW_US, **OURS)

    assert found.call is None
    assert f"({why})" in found.refused[0]


def test_of_several_calls_the_newest_that_is_signed_counts(tmp_path: Path):
    desk = Desk(tmp_path)
    desk.inbox.mkdir(parents=True)
    stranger = Ed25519PrivateKey.generate()
    for name, key, number in (("1", KEY, 1), ("2", KEY, 2), ("9", stranger, 9)):
        (desk.inbox / f"{name}.call").write_bytes(call_of(key, round=number)[0])
    (desk.inbox / "8.call").write_bytes(b"x" * 100_000)
    (desk.inbox / "7.call").symlink_to("/dev/zero")

    found = desk.newest_call([KEY.public_key()], learnt=Learnt(), now_us=NOW_US, **OURS)

    assert found.call.header.round == 2
    assert len(found.refused) == 3


def test_where_peers_are_known_no_round_is_answered_that_shows_what_one_gateway_learnt(tmp_path: Path):
    """Else an aggregator that wants to see one gateway's update would call a round of the other mode."""
    desk = Desk(tmp_path)
    desk.inbox.mkdir(parents=True)
    (desk.inbox / "1.call").write_bytes(call_of(KEY, round=1, mode="private")[0])
    (desk.inbox / "2.call").write_bytes(call_of(KEY, round=2, mode="robust")[0])

    def newest(*, is_private_only: bool) -> Calls:
        return desk.newest_call(
            [KEY.public_key()], learnt=Learnt(), now_us=NOW_US, is_private_only=is_private_only, **OURS
        )

    assert newest(is_private_only=False).call.header.round == 2
    found = newest(is_private_only=True)
    assert found.call.header.round == 1
    assert "(mode): of mode robust" in found.refused[0]


@pytest.mark.parametrize("embedding", [1, 47, 49, 92])
def test_a_call_with_a_head_of_another_size_is_refused_and_an_older_one_answered(tmp_path: Path, embedding: int):
    desk = Desk(tmp_path)
    desk.inbox.mkdir(parents=True)
    head = head_of(np.zeros(len(HEAD_NAMES) * (embedding + 1), np.float32))
    size = {"parameters": head.flat.size, "kept": head.flat.size}
    (desk.inbox / "1.call").write_bytes(call_of(KEY, round=1)[0])
    (desk.inbox / "2.call").write_bytes(call_of(KEY, head, round=2, **size)[0])

    found = desk.newest_call([KEY.public_key()], learnt=Learnt(), now_us=NOW_US, **OURS)

    assert found.call.header.round == 1
    assert f"(base): a head of {head.flat.size} numbers, the bundle's has {PARAMETERS}" in found.refused[0]


def test_a_broken_learnt_file_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "federation").mkdir()
    (tmp_path / "federation" / "learnt.json").write_text('{"round": -1}')

    with pytest.raises(StateRefused, match=r"learnt\.json"):
        Desk(tmp_path).learnt()


# -- the program ------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state folder of a gateway with a marked attack, a trusted aggregator, a call and anchors."""
    monkeypatch.setattr("time.time_ns", lambda: NOW_US * 1000)
    state = fill(tmp_path / "state", alarm=attacks("flood"), called="flood")
    (state / "rules.json").write_text(json.dumps({"verdicts": {FALSE_ALARM: "malicious"}}))
    trust(tmp_path / "aggregators", KEY)
    inbox = state / "federation" / "in"
    inbox.mkdir(parents=True)
    (inbox / "1.call").write_bytes(call_of(KEY, kept=PARAMETERS)[0])
    told = pack_anchors(anchors(), fleet=FLEET, bundle_sha256=bundle().manifest_sha256, key=KEY)
    (inbox / "1.anchors").write_bytes(told)
    return state


def finetune(home: Path, *more: str) -> int:
    places = ["--state-dir", str(home), "--aggregators", str(home.parent / "aggregators")]
    return main([*places, "--fleet", FLEET, "--gateway", "attic", "--now", *more])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_is_answered_with_a_small_signed_update_that_the_aggregator_takes(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    assert finetune(home, "--json") == 0

    report = json.loads(capsys.readouterr().out)
    (path,) = (home / "federation" / "out").iterdir()
    update = read_update(path.read_bytes())
    check_answers(update, call_of(KEY, kept=PARAMETERS)[1])
    assert verify(update.parts, own_key(home / "federation").public_key())
    assert (report["outcome"], report["update_bytes"]) == ("sent", path.stat().st_size)
    assert path.stat().st_size < MAX_UPDATE_BYTES
    assert update.steps.any()
    assert report["after"]["anchors_over"] >= report["before"]["anchors_over"] > 50


def test_what_is_not_given_is_as_the_agent_beside_it_has_it(home: Path, capsys: pytest.CaptureFixture[str]):
    write_card(
        home,
        AgentCard(
            gateway="attic", fleet=FLEET, bundle=None, bundle_sha256=bundle().manifest_sha256,
            trust=str(home / "none"), aggregators=str(home.parent / "aggregators"),
        ),
    )  # fmt: skip

    assert main(["--state-dir", str(home), "--now", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["outcome"] == "sent"


def test_without_options_and_without_an_agent_it_says_what_is_wanted(home: Path):
    assert main(["--state-dir", str(home)]) == 64


def test_drift_is_a_reason_to_learn_and_the_wish_for_the_run_is_gone(home: Path, capsys: pytest.CaptureFixture[str]):
    finetune(home)
    for path in (home / "federation" / "in").glob("*.call"):
        path.write_bytes(call_of(KEY, kept=PARAMETERS, round=2)[0])
    capsys.readouterr()
    given = ["--state-dir", str(home), "--aggregators", str(home.parent / "aggregators"), "--fleet", FLEET,
             "--gateway", "attic", "--json"]  # fmt: skip
    calm = root_of_a_calm_board(home.parent)

    assert outcome_of(given, calm, capsys) == "idle"
    want_run(home, {"drift"})
    assert outcome_of(given, calm, capsys) == "sent"

    assert wanted(home) == set()
    assert not (home / "federation" / TAKEN_FILE).exists()


def test_a_run_that_ends_with_a_complaint_was_a_run(home: Path):
    want_run(home, {"call"})
    (home / "federation" / "agent.json").write_text("{}")

    assert main(["--state-dir", str(home)]) == 65

    assert (wanted(home), (home / "federation" / TAKEN_FILE).exists()) == (set(), False)


def root_of_a_calm_board(folder: Path) -> Path:
    (folder / "calm" / "proc").mkdir(parents=True)
    (folder / "calm" / "proc" / "loadavg").write_text("0.00 0.00 0.00 1/1 1\n")
    return folder / "calm"


def outcome_of(given: list[str], root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    run(_parser().parse_args(given), root=root)
    return json.loads(capsys.readouterr().out)["outcome"]


def test_a_round_is_answered_once(home: Path, capsys: pytest.CaptureFixture[str]):
    finetune(home)
    before = files(home)

    assert finetune(home) == 0

    assert "round 1 is answered" in capsys.readouterr().out
    assert files(home) == before


def test_a_dry_run_learns_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]):
    before = files(home)

    assert finetune(home, "--dry-run") == 0

    assert "learnt from" in capsys.readouterr().out
    assert {name: told for name, told in files(home).items() if "-shm" not in name and "-wal" not in name} == {
        name: told for name, told in before.items() if "-shm" not in name and "-wal" not in name
    }


def test_a_stolen_verdict_leaves_only_as_far_as_no_anchor_is_unlearnt(home: Path, capsys: pytest.CaptureFixture[str]):
    """A stolen account marks a real attack benign: the gate of this very gateway holds most of it back."""
    (home / "rules.json").write_text(json.dumps({"verdicts": {FALSE_ALARM: "benign"}}))

    finetune(home, "--json")

    report = json.loads(capsys.readouterr().out)
    assert report["share_of_step"] <= 0.5
    before, after = report["judged_benign_over_before"], report["judged_benign_over_after"]
    assert before > 100
    assert before - after <= 0.02 * before  # of the windows the account called benign
    assert report["after"]["anchors_over"] == report["before"]["anchors_over"] > 50


def test_without_anchors_a_false_alarm_would_cost_attacks_that_look_like_it(tmp_path: Path):
    """What anchors are for: decision 0032 has the figures."""
    from federation.at_thresholds import is_over
    from federation.gateway.learn import fine_tune

    fill(tmp_path, alarm=near_alarms())
    found, head = gathered(tmp_path, {FALSE_ALARM: "benign"}), read_head(bundle().model)

    tuned, _ = fine_tune(
        head, found.embedding[found.is_learnt], found.label[found.is_learnt], found.weight[found.is_learnt]
    )

    guessing, thresholds = attacks("brute_force").embedding, shipped_thresholds()
    assert is_over(head, guessing, thresholds).sum() == len(guessing)
    assert is_over(tuned, guessing, thresholds).sum() < len(guessing) / 2


@pytest.mark.parametrize(
    ("break_it", "code", "said"),
    [
        (lambda home: (home / "samples.db").write_bytes(b"x" * 5000), 65, "not a file of samples"),
        (lambda home: (home / "rules.json").write_text("{"), 65, "rules.json"),
        (lambda home: (home / "federation" / "key.pem").write_text("none"), 78, "wanted 0600"),
        (lambda home: (home.parent / "aggregators" / "aggregator.pub").write_text("none"), 78, "not a public key"),
    ],
)
def test_what_is_broken_is_told_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], break_it: object, code: int, said: str
):
    break_it(home)

    assert finetune(home) == code

    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_without_samples_rounds_or_names_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--state-dir", str(tmp_path), "--dry-run", "--now"]) == 0
    assert main(["--state-dir", str(tmp_path), "--fleet", FLEET, "--gateway", "attic"]) == 0
    assert main(["--state-dir", str(tmp_path)]) == 64

    told = capsys.readouterr()
    assert "no samples were kept here yet" in told.out
    assert "no round is open" in told.out
    assert "--fleet and --gateway" in told.err


def test_what_learns_on_a_gateway_loads_no_torch_no_onnx_and_no_aggregator():
    heavy = (
        "torch",
        "onnx",
        "sklearn",
        "pandas",
        "matplotlib",
        "training",
        "exporter",
        "agent",
        "federation.aggregator",
    )
    script = f"import sys, federation.gateway.program; print([name for name in {heavy!r} if name in sys.modules])"

    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout.strip() == "[]"


def test_a_delta_is_of_the_call_s_head_and_not_of_the_bundle_s(home: Path):
    """The second round begins where the first ended."""
    finetune(home)
    head = read_head(bundle().model)
    moved = head.flat + np.float32(0.01)
    from contracts.head import head_of

    (home / "federation" / "in" / "2.call").write_bytes(call_of(KEY, head_of(moved), round=2, kept=PARAMETERS)[0])

    finetune(home)

    assert sorted(path.name for path in (home / "federation" / "out").iterdir()) == [
        "0000000001.update", "0000000002.update",
    ]  # fmt: skip

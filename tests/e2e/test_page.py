"""The local page in a real browser: what it shows of a hostile network, on a phone, in the dark, when nobody answers.

Without a Chromium these tests skip (tests/chromium.py says where it is looked for).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.monitoring.facts import HEARD, AgentFacts, FactsBoard, HeardDevice
from agent.monitoring.metrics import MetricsServer, MetricsSettings
from lab.namespaces import entered
from tests.agent.monitoring.facts import full_facts
from tests.bundles import sign, write_refusal_bundle
from tests.capture.wire import Wire
from tests.chromium import Tab, browsing
from tests.e2e.conftest import environment
from tests.e2e.scan import CAMERA, SCANNER, chat_frames, scan_frames
from tests.ports import free_port

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
TURNED = "\u202egnp.exe\u200b\x1b[2J"
LONG = "W" * 4000
PORT = 19746
PARTS = ["cellar", "Incidents", "Capture", "Judgement", "Delivery", "Machine", "Devices"]
Show = Callable[..., MetricsServer]


@pytest.fixture
def show() -> Iterator[Show]:
    """Give a function that serves facts and their page, on a port of the kernel's choice or the one named."""
    made: list[MetricsServer] = []

    def show_(facts: AgentFacts, *, port: int = 0) -> MetricsServer:
        board = FactsBoard()
        board.post(replace(facts))
        board.post(facts)
        made.append(MetricsServer(board, MetricsSettings(page=True)))
        made[-1].listener._place = ("127.0.0.1", port)
        made[-1].start()
        return made[-1]

    yield show_
    for each in made:
        each.stop()


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browsing(tmp_path / "browser") as tab:
        yield tab


def opened(tab: Tab, server: MetricsServer) -> None:
    tab.open(f"http://127.0.0.1:{server.listener.port}/")
    tab.until("document.body?.dataset.state === 'live'")


def hostile_facts() -> AgentFacts:
    """Return facts in which every text the wire can choose is chosen badly."""
    facts = full_facts()
    (incident,) = facts.incidents.recent
    names = [HOSTILE, TURNED, LONG, "'\"`${1}", ""]
    recent = tuple(replace(incident, device_name=name, columns=(("ports_60s", 0.6),)) for name in names)
    heard = tuple(
        HeardDevice(
            mac=f"02:00:00:00:00:{n:02x}", name=names[n % len(names)], addresses=(f"192.168.1.{n}", f"fe80::{n:x}")
        )
        for n in range(HEARD)
    )
    return replace(
        facts,
        incidents=replace(facts.incidents, recent=recent),
        devices=replace(facts.devices, heard=heard),
        delivery=replace(facts.delivery, broker_reason=f"{HOSTILE} {LONG}"),
    )


def test_what_devices_and_brokers_say_is_text_whatever_they_say(show: Show, tab: Tab):
    server = show(hostile_facts())

    opened(tab, server)
    text = tab.value("document.body.innerText")

    assert HOSTILE in text
    assert tab.value("document.querySelectorAll('script, img, iframe').length") == 1  # its own script
    assert "owned" not in tab.value("document.title")
    assert "W" * 63 + "…" in tab.value("document.getElementById('devices').innerText")
    assert "W" * 401 not in text
    assert re.findall(r"[\u202a-\u202e\u2066-\u2069\u200b\x1b]", text) == []
    assert tab.said == []


def test_it_asks_nobody_but_its_agent_and_its_policy_stops_what_would(show: Show, tab: Tab):
    server = show(full_facts())
    opened(tab, server)
    asked = {url for url in tab.asked if not url.startswith("data:")}

    tab.value("fetch('http://203.0.113.1/').catch(() => null)")
    tab.value("document.body.append(Object.assign(document.createElement('img'), {src: 'http://203.0.113.1/x.png'}))")
    stopped = tab.value("(() => { try { document.body.innerHTML = '<p>'; return false; } catch { return true; } })()")

    base = f"http://127.0.0.1:{server.listener.port}"
    assert asked == {f"{base}/", f"{base}/facts.json"}
    assert stopped is True
    tab.until_said("Content Security Policy", times=2)


def test_an_incident_stands_there_with_what_its_score_rests_on(show: Show, tab: Tab):
    facts = full_facts()
    recent = replace(facts.incidents.recent[0], columns=(("ports_60s", 0.62), ("syn_packets", 0.31)), threshold=0.93)
    server = show(replace(facts, incidents=replace(facts.incidents, recent=(recent,))))

    opened(tab, server)
    text = tab.value("document.querySelector('.incident').innerText")

    assert "203.0.113.9 → attacks " in re.sub(r"\s+", " ", text)
    for told in (
        "scan",
        "open",
        "severity 2; score 0.987, opens at 0.930; 40 flows",
        "ports_60s",
        "\N{MINUS SIGN}0.62",
        "syn_packets",
    ):
        assert told in text


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_is_no_wider_than_its_window(show: Show, tab: Tab, width: int):
    tab.resize(width, 800)

    opened(tab, show(hostile_facts()))

    assert tab.value("document.documentElement.scrollWidth") <= width


CONTRASTS = """(() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll("body *")].filter((each) => each.innerText && each.offsetParent).map((each) => {
    const ink = light(getComputedStyle(each).color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_by_day_and_by_night(show: Show, tab: Tab, scheme: str):
    tab.prefer(scheme)

    opened(tab, show(full_facts()))
    paper = [int(each) for each in re.findall(r"\d+", tab.value("getComputedStyle(document.body).backgroundColor"))]

    assert (sum(paper) > 600) == (scheme == "light")
    assert min(tab.value(CONTRASTS)) >= 4.5  # WCAG 2, level AA


def test_it_can_be_used_by_keyboard_and_is_read_in_order(show: Show, tab: Tab):
    opened(tab, show(hostile_facts()))
    rows = "document.querySelectorAll('#devices tbody tr').length"
    before, reached = tab.value(rows), []

    for _ in range(3):
        tab.press("Tab", 9)
        reached.append(tab.value("document.activeElement.textContent"))
    tab.value("document.getElementById('more').focus()")
    tab.press("Enter", 13)
    after, focus = tab.value(rows), tab.value("document.activeElement.id")
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]

    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    headings = [name.split("  ")[0].split(" ")[0] for role, name in named if role == "heading"]
    assert reached == ["To the incidents", f"Show all {HEARD}", "metrics"]
    assert (before, after, focus) == (12, HEARD, "more")
    assert tab.value("document.getElementById('more').getAttribute('aria-expanded')") == "true"
    assert [each for each in headings if each in PARTS] == PARTS
    assert [name for role, name in named if role == "status"][:1] != []
    assert all(name for role, name in named if role in ("region", "button", "link"))


def test_what_stands_there_already_is_not_made_anew(show: Show, tab: Tab):
    """A selection, the focus and a screen reader's place stay while numbers change."""
    server = show(full_facts())
    opened(tab, server)
    tab.value("window.kept = document.querySelector('.incident h3'); 0")

    server._local_page._board.post(replace(full_facts(), flows=replace(full_facts().flows, live=4321)))
    tab.until("document.getElementById('figures').innerText.includes('4,321')")

    assert tab.value("window.kept === document.querySelector('.incident h3')") is True


def test_when_the_agent_stops_answering_it_says_so_and_when_it_answers_again_too(show: Show, tab: Tab):
    port = free_port()  # nobody else's while it is shut
    server = show(full_facts(), port=port)
    opened(tab, server)

    server.stop()
    tab.until("document.body?.dataset.state === 'lost'")
    lost, title = tab.value("document.getElementById('state').innerText"), tab.value("document.title")
    kept = tab.value("document.querySelector('.incident').innerText")
    show(full_facts(), port=port)
    tab.until("document.body?.dataset.state === 'live'")

    assert re.fullmatch(r"The agent does not answer\. This is from .+\.", lost)
    assert title == "penstock: no answer"
    assert "scan" in kept
    assert tab.value("document.title") == "cellar: 1 incident open"


def test_numbers_that_grow_old_are_called_old(show: Show, tab: Tab):
    server = show(full_facts())
    opened(tab, server)

    server._local_page._board._now_s = lambda: 1e9
    tab.until("document.body?.dataset.state === 'stale'")

    assert "the pipeline does not move" in tab.value("document.getElementById('problems').innerText")


# -- with an agent --------------------------------------------------------------------------------------------------


@pytest.mark.needs_root
def test_a_running_agent_shows_what_its_wire_carried(wire: Wire, command: list[str], tmp_path: Path):
    bundle = sign(write_refusal_bundle(tmp_path / "bundle"), tmp_path / "trust.d")
    (tmp_path / "agent.toml").write_text(
        f'[gateway]\nid = "cellar"\nstate_dir = "{tmp_path}/state"\n'
        '[capture]\ninterfaces = ["eth0"]\nhome_nets = ["192.168.1.0/24"]\n'
        f'[scoring]\nbundle = "{bundle}"\ntrust_dir = "{tmp_path}/trust.d"\n'
        f'[metrics]\nlisten = "127.0.0.1:{PORT}"\npage = true\n[status]\nenabled = false\n'
    )
    agent = subprocess.Popen(
        [*command, "run", "--config", str(tmp_path / "agent.toml")],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "watching eth0" not in (line := agent.stderr.readline()):
            assert line, "the agent ended"
        with browsing(tmp_path / "browser", within=lambda: entered(wire.near)) as tab:
            tab.open(f"http://127.0.0.1:{PORT}/")
            tab.until("document.body?.dataset.state === 'live'")
            wire.send(frame for _, frame in [*chat_frames(times=3, every_s=0.3), *scan_frames(ports=150, begin_s=0)])
            tab.until("document.querySelector('.incident') !== null")
            told = re.sub(r"\s+", " ", tab.value("document.querySelector('.incident').innerText"))

        assert f"{SCANNER} → attacks {CAMERA}" in told
        assert "Its score rests on" in told
        assert [each for each in tab.said if "ERR_" not in each] == []
    finally:
        agent.kill()
        agent.communicate()

"""The bounded memory of what was written, and how a file fills it."""

from agent.bridging.seen import Seen
from contracts.eve import render_eve
from tests.alerts import make_alert


def test_an_alert_is_known_by_its_gateway_and_id_together():
    seen = Seen()
    mine = make_alert(1)

    seen.add(mine.host, mine.alert_id)

    assert mine in seen
    assert make_alert(2) not in seen
    assert make_alert(1, host="other") not in seen


def test_beyond_its_bound_the_oldest_is_forgotten():
    seen = Seen(most=2)
    alerts = [make_alert(number) for number in range(3)]

    for alert in alerts:
        seen.add(alert.host, alert.alert_id)

    assert [alert in seen for alert in alerts] == [False, True, True]
    assert len(seen) == 2


def test_one_seen_again_counts_as_new():
    seen = Seen(most=2)
    for number in (0, 1, 0, 2):
        seen.add("replay", make_alert(number).alert_id)

    assert [make_alert(number) in seen for number in range(3)] == [True, False, True]


def test_a_file_of_lines_is_remembered_and_what_is_no_line_of_ours_is_passed_over(tmp_path):
    path = tmp_path / "eve.json"
    noise = ["not JSON", "[]", "{}", '{"host": 1, "alert": {"context": {"penstock": {"alert_id": []}}}}', "[" * 3000]
    path.write_text("\n".join([render_eve(make_alert(1)), *noise, render_eve(make_alert(2))]) + "\n")
    seen = Seen()

    seen.read(path)

    assert len(seen) == 2
    assert make_alert(1) in seen
    assert make_alert(2) in seen


def test_a_file_that_is_not_there_is_no_matter(tmp_path):
    seen = Seen()

    seen.read(tmp_path / "none")

    assert len(seen) == 0

import pytest

from agent.delivery.clock import CLOCK_SET_US, MAX_ERROR_US, is_clock_synchronised, kernel_error_us

NOW_US = CLOCK_SET_US + 10**15


@pytest.mark.parametrize(
    ("now_us", "error_us", "is_synchronised"),
    [
        (NOW_US, 0, True),
        (NOW_US, MAX_ERROR_US - 1, True),
        (NOW_US, MAX_ERROR_US, False),
        (CLOCK_SET_US - 1, 0, False),
        (CLOCK_SET_US, 0, True),
        (5_000_000, None, False),
    ],
)
def test_the_kernel_is_believed_unless_the_year_is_absurd(tmp_path, now_us, error_us, is_synchronised):
    said = is_clock_synchronised(now_us=lambda: now_us, error_us=lambda: error_us, marker=tmp_path / "marker")

    assert said == is_synchronised


def test_where_the_kernel_may_not_be_asked_systemds_marker_counts(tmp_path):
    def ask(marker):
        return is_clock_synchronised(now_us=lambda: NOW_US, error_us=lambda: None, marker=marker)

    assert not ask(tmp_path / "synchronized")
    (tmp_path / "synchronized").touch()
    assert ask(tmp_path / "synchronized")
    assert ask(tmp_path / "no systemd-timesyncd here" / "synchronized")


def test_this_kernel_says_how_wrong_it_may_be():
    error_us = kernel_error_us()

    assert error_us is None or 0 <= error_us <= MAX_ERROR_US

"""The unknown score: raw kinds against sums written out, calibration against counted shares."""

from __future__ import annotations

import numpy as np
import pytest

from training.unknown import (
    KINDS,
    Outputs,
    UnknownSettings,
    apply_calibration,
    calibrate,
    choose_threshold,
    equal_weight,
    fit_raw,
    fit_unknown,
    raw_scores,
    score_of,
    unknown_scores,
)

CLASSES, EMBEDDING = 11, 6


@pytest.fixture
def outputs():
    rng = np.random.default_rng(3)
    return Outputs(
        rng.normal(0, 3, (400, CLASSES)).astype(np.float32), np.tanh(rng.normal(0, 1, (400, EMBEDDING))).astype("f4")
    )


@pytest.fixture
def label():
    return np.random.default_rng(4).choice([0, 0, 0, 1, 3], 400)


def test_log_odds_are_those_of_the_softmax(outputs, label):
    raw = raw_scores(fit_raw("log_odds", outputs, label), outputs)

    odds = np.exp(outputs.logits.astype(np.float64))
    benign = odds[:, 0] / odds.sum(axis=1)
    assert raw == pytest.approx(np.log((1 - benign) / benign), rel=1e-3, abs=1e-3)


def test_energy_is_low_where_a_class_claims_the_window(outputs, label):
    raw = raw_scores(fit_raw("energy", outputs, label), outputs)

    assert raw == pytest.approx(-np.log(np.exp(outputs.logits.astype(np.float64)).sum(axis=1)), rel=1e-4)


def test_a_window_at_the_benign_mean_is_nearer_than_any_other(outputs, label):
    arrays = fit_raw("benign_mahalanobis", outputs, label)
    mean = outputs.embedding[label == 0].mean(axis=0, keepdims=True)

    at_mean = raw_scores(arrays, Outputs(outputs.logits[:1], mean))

    assert at_mean[0] == pytest.approx(0.0, abs=1e-6)
    assert at_mean[0] < raw_scores(arrays, outputs).min()


def test_the_distance_counts_in_units_of_the_benign_spread():
    rng = np.random.default_rng(1)
    rows = rng.normal(0, [1.0, 0.1], (5000, 2)).astype(np.float32)
    arrays = fit_raw("benign_mahalanobis", Outputs(np.zeros((5000, 2), "f4"), rows), np.zeros(5000, np.int64))

    along, across = raw_scores(arrays, Outputs(np.zeros((2, 2), "f4"), np.array([[0.5, 0], [0, 0.5]], "f4")))

    assert across > 3 * along


def test_the_nearest_class_counts_not_the_first(outputs, label):
    arrays = fit_raw("mahalanobis", outputs, label)
    centre = outputs.embedding[label == 3].mean(axis=0, keepdims=True)

    assert raw_scores(arrays, Outputs(outputs.logits[:1], centre))[0] == pytest.approx(0.0, abs=1e-5)


def test_every_kind_gives_one_finite_number_per_window(outputs, label):
    for kind in KINDS:
        raw = raw_scores(fit_raw(kind, outputs, label), outputs)

        assert raw.shape == (400,)
        assert np.isfinite(raw).all(), kind


def test_a_kind_that_there_is_not_is_refused(outputs, label):
    with pytest.raises(ValueError, match="wanted one of"):
        fit_raw("feeling", outputs, label)


def test_a_score_means_the_share_of_benign_windows_that_reach_it():
    raw = np.random.default_rng(0).normal(0, 1, 20_000).astype(np.float32)
    arrays = calibrate(raw, np.ones(len(raw)))

    fresh = np.random.default_rng(1).normal(0, 1, 200_000).astype(np.float32)
    scores = apply_calibration(arrays, fresh)
    for rate in (0.2, 0.05, 0.01, 0.001):
        assert (scores >= score_of(rate)).mean() == pytest.approx(rate, rel=0.35)


def test_beyond_the_sample_the_score_goes_on_rising_up_to_one():
    raw = np.random.default_rng(0).exponential(1.0, 3000).astype(np.float32)
    arrays = calibrate(raw, np.ones(len(raw)))

    scores = apply_calibration(arrays, np.array([-50.0, raw.max(), raw.max() + 1, 1e6], np.float32))

    assert scores[0] == 0.0
    assert scores[1] < scores[2] < scores[3] == 1.0


def test_an_exponential_tail_is_told_beyond_the_sample_as_well():
    raw = np.random.default_rng(0).exponential(1.0, 3000).astype(np.float32)
    arrays = calibrate(raw, np.ones(len(raw)))

    (score,) = apply_calibration(arrays, np.array([-np.log(1e-4)], np.float32))

    assert score_of(1.8e-4) < score < score_of(0.2e-4)


def test_equal_scores_do_not_break_the_calibration():
    raw = np.concatenate([np.zeros(990), np.ones(10)]).astype(np.float32)
    arrays = calibrate(raw, np.ones(len(raw)))

    low, high = apply_calibration(arrays, np.array([0.0, 1.0], np.float32))

    assert np.isfinite([low, high]).all()
    assert low < high


def test_too_few_windows_calibrate_nothing():
    with pytest.raises(ValueError, match="at least 100"):
        calibrate(np.zeros(99, np.float32), np.ones(99))


def test_a_device_with_many_windows_counts_no_more_than_one_with_few():
    weight = equal_weight(np.array([0] * 90 + [1] * 10))

    assert weight[:90].sum() == pytest.approx(weight[90:].sum()) == pytest.approx(0.5)


def test_the_fitted_score_tells_what_it_rests_on(outputs, label):
    benign = {"kettle": outputs.where(np.arange(400) < 300), "lamp": outputs.where(np.arange(400) >= 300)}

    arrays, told = fit_unknown(outputs, label, benign, settings=UnknownSettings())

    scores = unknown_scores(arrays, outputs)
    assert told["calibrated_on"] == {"devices": ["kettle", "lamp"], "windows": 400}
    assert told["least_rate"] == pytest.approx(3 / 400)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores > score_of(0.05)).mean() == pytest.approx(0.05, abs=0.03)


def test_the_threshold_is_above_what_any_real_device_reached():
    real, lab = np.array([0.1, 0.7], np.float32), np.array([0.2, 0.3], np.float32)

    chosen = choose_threshold(real, lab, settings=UnknownSettings(margin=0.3))

    assert chosen["open"] == pytest.approx(0.7 + 0.3 / 5)
    assert chosen["severe"] >= chosen["open"]


def test_a_calm_sample_does_not_pull_the_threshold_below_its_rate():
    assert choose_threshold(np.zeros(5, "f4"), np.zeros(0, "f4"), settings=UnknownSettings(rate=1e-3))["open"] == 0.6


def test_where_benign_windows_reach_the_end_of_the_scale_nothing_is_called_unknown():
    chosen = choose_threshold(np.zeros(5, "f4"), np.ones(5, "f4"), settings=UnknownSettings())

    assert chosen == {"open": 1.0, "severe": 1.0}

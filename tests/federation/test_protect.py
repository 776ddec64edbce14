"""What leaves of a delta: never longer than the clip, at the shared places, and nothing lost but for a while."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.update import Call, UpdateHeader, check_answers, pack_update, read_update
from federation.privacy.protect import protect, restored
from tests.federation.homes import FLEET, NOW_US, PARAMETERS, call_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def call(**changes: object) -> Call:
    return call_of(KEY, **changes)[1]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(1e-3, 1e3), kept=st.integers(1, PARAMETERS))
def test_whatever_was_learnt_the_aggregator_takes_what_leaves(seed: int, size: float, kept: int):
    asked = call(kept=kept)
    delta = (np.random.default_rng(seed).standard_t(1.5, PARAMETERS) * size).astype(np.float32)

    protected = protect(delta, asked)

    header = UpdateHeader(fleet=FLEET, round=1, gateway="attic", call_sha256=asked.sha256, examples=100, made_us=NOW_US)
    check_answers(read_update(pack_update(header, protected.steps, KEY)), asked)
    assert np.linalg.norm(protected.residual) <= asked.header.clip_norm + 1e-4


def test_what_is_sent_and_what_stays_is_the_clipped_delta():
    asked = call(kept=90)
    delta = np.random.default_rng(1).normal(0, 0.02, PARAMETERS).astype(np.float32)

    protected = protect(delta, asked)

    whole = protected.residual.astype(np.float64)
    whole[asked.places] += restored(protected.steps, asked)
    assert np.abs(whole - delta).max() < 1e-6
    assert not protected.clipped


def test_over_rounds_error_feedback_sends_what_thinning_and_rounding_kept_back():
    delta = np.random.default_rng(2).normal(0, 0.004, PARAMETERS).astype(np.float32)
    residual, total = None, np.zeros(PARAMETERS)

    for number in range(200):
        asked = call(kept=90, seed=f"{number:064x}", clip_norm=5.0)
        protected = protect(delta, asked, residual=residual)
        residual = protected.residual
        total[asked.places] += restored(protected.steps, asked)

    # All that was learnt, less at most what still stays.
    assert np.abs(total + residual - 200 * delta).max() < 1e-3
    assert np.linalg.norm(total - 200 * delta) / np.linalg.norm(200 * delta) < 0.05


def test_without_error_feedback_small_steps_would_be_lost():
    delta = np.full(PARAMETERS, 0.003, np.float32)  # below half a step of 1/127
    asked = call(kept=PARAMETERS)

    assert not protect(delta, asked).steps.any()
    assert protect(delta, asked, residual=np.full(PARAMETERS, 0.003, np.float32)).steps.all()


@pytest.mark.parametrize("wrong", [np.zeros(PARAMETERS - 1, np.float32), np.full(PARAMETERS, np.nan, np.float32)])
def test_what_is_no_delta_is_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match="finite numbers"):
        protect(wrong, call())

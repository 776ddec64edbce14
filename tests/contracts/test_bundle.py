import datetime
import json
import os
import tracemalloc

import pytest

from contracts import bundle as bundles
from contracts.bundle import Manifest, default_bundle, file_sha256, load_bundle, pinned_source, write_manifest
from contracts.classes import HEAD_NAMES
from contracts.errors import BundleCorrupt, BundleUnreadable, BundleUntrusted, SchemaMismatch
from flowfeatures.columns import SCHEMA_ID, WINDOW_COLUMNS

FEATURES = len(WINDOW_COLUMNS)


def manifest_of(folder, **changes):
    fields = {
        "release": 1,
        "name": "gru",
        "schema_id": SCHEMA_ID,
        "window": 16,
        "features": FEATURES,
        "classes": list(HEAD_NAMES),
        "scaling": {"kind": "log1p", "mean": [0.0] * FEATURES, "std": [1.0] * FEATURES},
        "thresholds": {name: {"open": 0.9, "severe": 0.99} for name in HEAD_NAMES[1:]},
        "interval": {"lo": 0.5, "hi": 0.999},
        "benign_medians": [0.0] * FEATURES,
        "files": {"model.onnx": file_sha256(folder / "model.onnx")},
        "data": [{"name": "lab", "terms": "MIT", "captures": 4, "windows": 1000}],
        "figures": {"holdout": {"split": "lab seed 9", "values": {"tpr": 0.9, "auc": None}}},
        "unknown_score": "constant",
        "attention": "uniform",
        "quantisation": "int8 weights",
        "parameters": 12_345,
        "seed": 1,
        "training_commit": "7427d6f",
        "created": datetime.date(2026, 11, 21),
    }
    return Manifest.model_validate({**fields, **changes})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    write_manifest(tmp_path, manifest_of(tmp_path))
    return tmp_path


def rewrite(folder, **changes):
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**fields, **changes}))


def test_a_written_bundle_loads_with_its_model_in_memory_and_is_called_unsigned(folder):
    bundle = load_bundle(folder)

    assert bundle.manifest == manifest_of(folder)
    assert bundle.model == b"a graph"
    assert bundle.model_path == folder / "model.onnx"
    assert bundle.unsigned


def test_writing_the_same_manifest_twice_gives_the_same_bytes(folder):
    before = (folder / "manifest.json").read_bytes()

    write_manifest(folder, manifest_of(folder))

    assert (folder / "manifest.json").read_bytes() == before
    assert {file.name for file in folder.iterdir()} == {"manifest.json", "model.onnx"}


def test_a_bundle_of_another_schema_says_which_is_wanted(folder):
    rewrite(folder, schema_id="0123456789abcdef")

    with pytest.raises(SchemaMismatch, match=f"schema_id '0123456789abcdef', this build wants '{SCHEMA_ID}'"):
        load_bundle(folder)


@pytest.mark.parametrize("change", [{"format": 2}, {"features": 12}, {"classes": ["benign", "attack"]}])
def test_a_bundle_made_for_another_build_is_a_mismatch_before_it_is_a_bad_shape(folder, change):
    rewrite(folder, **change, surprise=True)

    with pytest.raises(SchemaMismatch, match=f"made for {next(iter(change))}"):
        load_bundle(folder)


def test_one_changed_byte_of_the_model_is_found(folder):
    (folder / "model.onnx").write_bytes(b"a Graph")

    with pytest.raises(BundleCorrupt, match=r"model\.onnx has sha256 \w{64}, its manifest wants \w{64}"):
        load_bundle(folder)


def test_a_file_the_manifest_names_must_be_there(folder):
    (folder / "model.onnx").unlink()

    with pytest.raises(BundleUnreadable, match=r"cannot read .*model\.onnx: No such file"):
        load_bundle(folder)


def test_other_files_are_checked_and_only_the_model_is_kept(folder):
    for number in range(3):
        (folder / f"extra-{number}").write_bytes(b"%d" % number * 8_000_000)
    files = {name: file_sha256(folder / name) for name in ("model.onnx", "extra-0", "extra-1", "extra-2")}
    write_manifest(folder, manifest_of(folder, files=files))

    tracemalloc.start()
    assert load_bundle(folder).model == b"a graph"
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 8_000_000

    (folder / "extra-2").write_bytes(b"3" * 8_000_000)
    with pytest.raises(BundleCorrupt, match="extra-2 has sha256"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_pipe_is_no_file_of_a_bundle_and_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)

    with pytest.raises(BundleUnreadable, match=rf"cannot read .*{name}: not a regular file"):
        load_bundle(folder)


def test_an_empty_name_is_not_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)

    with pytest.raises(BundleUnreadable, match="the name of its folder is empty"):
        load_bundle("")


@pytest.mark.parametrize("change", [{"schema_id": "x" * 500_000}, {"classes": ["y" * 500_000]}])
def test_a_mismatch_shows_the_beginning_of_what_it_saw(folder, change):
    rewrite(folder, **change)

    with pytest.raises(SchemaMismatch, match=r"made for \w+ .*\.\.\., this build wants") as caught:
        load_bundle(folder)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["../model.onnx", "a/b", "/etc/passwd", ".hidden", ""])
def test_a_file_outside_the_folder_cannot_be_named(folder, name):
    rewrite(folder, files={"model.onnx": "0" * 64, name: "0" * 64})

    with pytest.raises(BundleUnreadable, match="files"):
        load_bundle(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BundleUnreadable, match=r"cannot read .*nowhere/manifest\.json: No such file"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"12", b"null"])
def test_a_manifest_that_is_no_json_object_is_unreadable(folder, raw):
    (folder / "manifest.json").write_bytes(raw)

    with pytest.raises(BundleUnreadable, match=r"manifest\.json"):
        load_bundle(folder)


def test_a_manifest_too_large_to_be_one_is_not_read_into_memory(folder):
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(BundleUnreadable, match="larger than 1048576 bytes"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"release": 0}, "release"),
        ({"release": 1 << 63}, "release"),
        ({"benign_medians": [1e308] * FEATURES}, "benign_medians"),
        ({"scaling": {"kind": "log1p", "mean": [0.0] * FEATURES, "std": [1e-300] * FEATURES}}, "std"),
        ({"scaling": {"kind": "log1p", "mean": [-1e39] * FEATURES, "std": [1.0] * FEATURES}}, "mean"),
        ({"files": {f"file-{number}": "0" * 64 for number in range(17)}}, "files"),
        ({"files": {f"{number:064}": "0" * 64 for number in range(16)}}, r"files must hold model\.onnx"),
        ({"x" * 100_000: 1}, "xxx"),
        ({"window": "16"}, "window"),
        ({"surprise": 1}, "surprise"),
        ({"benign_medians": [0.0]}, "benign_medians holds 1 values"),
        ({"benign_medians": [float("nan")] * FEATURES}, "benign_medians"),
        ({"thresholds": {}}, "thresholds must name"),
        ({"interval": {"lo": 0.9, "hi": 0.1}}, "lo must not be above hi"),
        ({"intervals": {"benign": {"lo": 0.1, "hi": 0.9}}}, "intervals names .*benign.*, which has no threshold"),
        ({"benign_scores": {"windows": 9, "shares": [0.1, 0.2], "quantiles": {}}}, "shares must fall"),
        ({"benign_scores": {"windows": 9, "shares": [0.1], "quantiles": {"scan": []}}}, "hold 0 scores, shares 1"),
        (
            {"benign_scores": {"windows": 9, "shares": [0.1, 0], "quantiles": {"scan": [0.5, 0.4]}}},
            "must not fall, got",
        ),
        ({"benign_scores": {"windows": 9, "shares": [0.1], "quantiles": {"nonsense": [0.5]}}}, "has no threshold"),
        ({"files": {}}, r"files must hold model\.onnx"),
        ({"training_commit": "yesterday"}, "training_commit"),
    ],
)
def test_a_field_that_cannot_be_is_named_on_one_line(folder, change, complaint):
    rewrite(folder, **change)

    with pytest.raises(BundleUnreadable, match=complaint) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_only_the_pinned_manifest_is_trusted(folder, monkeypatch):
    digest = write_manifest(folder, manifest_of(folder))
    monkeypatch.setattr(bundles, "DEFAULT_MANIFEST_SHA256", digest)
    monkeypatch.setattr(bundles, "DEFAULT_DIR", folder)

    assert not default_bundle().unsigned

    rewrite(folder, release=2)
    with pytest.raises(BundleUntrusted, match=f"this package pins {digest}"):
        default_bundle()


def test_without_a_pin_nothing_is_trusted(folder, monkeypatch):
    monkeypatch.setattr(bundles, "DEFAULT_MANIFEST_SHA256", "")

    with pytest.raises(BundleUntrusted, match="this package pins none"):
        load_bundle(folder, pinned=True)


def test_the_source_of_the_pin_is_made_from_the_file_it_replaces():
    text = pinned_source("ab" * 32)
    scope = {}

    exec(text, scope)

    assert scope["DEFAULT_MANIFEST_SHA256"] == "ab" * 32
    assert text.startswith('"""The sha256 of models/default/manifest.json')

"""`penstock-aggregator doctor`: what on this server keeps an aggregator from working, and what to do about each.

It changes nothing, and opens the store to read alone; works beside a running service and without one, and makes every
check whatever the others found. Asked by root it looks as the user whom the state folder belongs to.
What it does not do is read the captures: that takes minutes, and `run` does it before it says that it is ready.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts import ground_truth
from contracts.certificates import expiry, first_to_end
from contracts.errors import PenstockError
from contracts.files import open_regular
from contracts.findings import Finding, fail, looked, ok, warn
from contracts.trust import read_public_key
from detection.onnx_engine import OnnxEngine
from exporter.sign import fingerprint, load_key, public_path
from federation.aggregator import flower
from federation.aggregator.ledger import ADDED_TABLES, TABLES, Ledger
from federation.aggregator.office import first_bundle, store_of
from federation.aggregator.owner import become_owner_of, name_of
from federation.aggregator.probe import ask
from federation.aggregator.settings import AggregatorConfig, load_config
from federation.aggregator.strategies import STRATEGIES
from federation.aggregator.windows import check_apart

USER: Final = "penstock-aggregator"
RESTARTED: Final = f"systemctl restart {USER}"
NOT_YET: Final = "not there yet, the first command makes it"
BROKEN_STORE: Final = f"its owner ({USER}), room on the disk, or a copy from before"
SAMPLE: Final = "/opt/penstock/current/share/penstock/aggregator.toml"
ACL: Final = "the broker's ACL, as deploy/mosquitto/penstock.acl has it for this certificate's name"
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def examine(file: Path, *, is_offline: bool, timeout_s: float) -> list[Finding]:
    """Return what was found; without settings that hold, that alone."""
    try:
        config = load_config(file)
    except PenstockError as exc:
        return [fail("settings", str(exc), f"every setting stands in {SAMPLE}, with its default")]
    become_owner_of(config.worker.state_dir)
    checks = [state, store, keys, bundle, strategy, windows, certificates]
    found = [ok("settings", f"{file}: fleet {config.fleet.name}, mode {config.rounds.mode}")]
    found += [each for check in checks for each in looked(check.__name__, partial(check, config))]
    if not is_offline:
        found += looked("broker", partial(broker, config, timeout_s=timeout_s))
    return found


def state(config: AggregatorConfig) -> Iterator[Finding]:
    """Look at the folder of what must not be lost."""
    folder = config.worker.state_dir
    mend = f"sudo install -d -m 0700 -o {USER} -g {USER} {folder}"
    try:
        facts = folder.stat()
    except OSError as exc:
        yield fail("state", f"{folder}: {exc.strerror}", mend)
        return
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.geteuid():
        seen = f"{folder}: {name_of(facts.st_uid)}'s, and this is {name_of(os.geteuid())}"
        yield fail("state", seen, f"ask as root, or as its owner: sudo {USER} doctor")
    elif mode & OTHERS_WRITE:
        yield fail("state", f"{folder}: mode {mode:04o}, others may write", f"sudo chmod 0700 {folder}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fail("state", f"{folder}: {name_of(os.geteuid())} may not write there", mend)
    elif mode & OTHERS:
        yield warn("state", f"{folder}: mode {mode:04o}, others may look into it", f"sudo chmod 0700 {folder}")
    else:
        yield ok("state", f"{folder}: {name_of(facts.st_uid)}'s, mode {mode:04o}")


def store(config: AggregatorConfig) -> Iterator[Finding]:
    """Look into what holds rounds and gateways, as it is, and follow the audit log's chain."""
    where = store_of(config)
    try:
        is_missing = "://" not in str(where) and not Path(where).exists()
    except OSError:  # the folder's line says why
        is_missing = True
    if is_missing:
        yield ok("store", f"{where}: {NOT_YET}")
        return
    try:
        ledger = Ledger(where, as_it_is=True)
        try:
            yield _store_as_seen(ledger)
        finally:
            ledger.close()
    except PenstockError as exc:
        yield fail("store", str(exc), BROKEN_STORE)


def _store_as_seen(ledger: Ledger) -> Finding:
    lacking = ledger.lacking
    if set(lacking) == set(TABLES):
        return ok("store", f"{ledger.name}: empty: {NOT_YET}")
    if lost := [each for each in lacking if each not in ADDED_TABLES]:
        return fail("store", f"{ledger.name}: lacks {', '.join(lost)}", BROKEN_STORE)
    with ledger.snapshot():  # the service may let the oldest go meanwhile
        entries = sum(1 for _ in ledger.entries())
    if lacking:
        seen = f"{ledger.name}: of an older version, lacks {', '.join(lacking)}; audit log whole ({entries} entries)"
        return warn("store", seen, f"the service adds them when it starts: sudo {RESTARTED}")
    return ok("store", f"{ledger.name}: opens, audit log whole ({entries} entries)")


def keys(config: AggregatorConfig) -> Iterator[Finding]:
    """Look at both private keys, and at the public halves that gateways were given."""
    told = config.keys
    seen = {}
    for name, path, place in (("calls", told.calls, "aggregators.d"), ("bundles", told.bundles, "trust.d")):
        if name == "bundles" and not config.rollout.is_automatic and not os.path.lexists(path):
            yield ok("keys", f"bundles: {path} is not here, and rollout.is_automatic is false")
            continue
        try:
            public = load_key(path).public_key()
            beside = public_path(path)
            other = read_public_key(beside) if beside.exists() else public
        except PenstockError as exc:
            yield fail("keys", f"{name}: {exc}", _key_remedy(path))
            continue
        seen[name] = fingerprint(public)
        if _raw(other) != _raw(public):
            seen_text = f"{name}: {beside} is not the public half of {path}"
            yield fail("keys", seen_text, f"sudo openssl pkey -in {path} -pubout -out {beside}, and to the gateways")
        else:
            yield ok("keys", f"{name}: {path}; gateways have {seen[name]} in {place}")
    if len(seen) > len(set(seen.values())):
        yield warn("keys", "one key signs calls and bundles", "two: who holds that of calls could make bundles")


def bundle(config: AggregatorConfig) -> Iterator[Finding]:
    """Load the bundle that gateways began with, and build its engine."""
    try:
        first = first_bundle(config)
        OnnxEngine(first)
    except PenstockError as exc:
        yield fail("bundle", str(exc), "bundle.path and bundle.trust; unset, the one inside this package serves")
    else:
        yield ok("bundle", f"release {first.manifest.release}, {first.manifest_sha256[:16]}")


def strategy(config: AggregatorConfig) -> Iterator[Finding]:
    """Ask whether what a round is to be closed with is installed."""
    name = config.rounds.strategy
    if config.rounds.mode == "private":
        yield ok("strategy", "a mean: private rounds know no other")
    elif name in STRATEGIES or flower.is_installed():
        yield ok("strategy", f"{name}, {'by Flower' if flower.is_installed() else 'our own'}")
    else:
        remedy = 'install with --extra cpu,federate, or rounds.strategy = "fedtrimmedavg"'
        yield fail("strategy", f"{name} is Flower's, and Flower is not installed", remedy)


def windows(config: AggregatorConfig) -> Iterator[Finding]:
    """Look at the captures by which heads are judged, without reading them through."""
    told, remedy = config.windows, "captures of your own: docs/lab.md says how to record them, [windows] names them"
    sets = []
    try:
        for paths in (told.teaching, told.judging):
            sets.append([truth for path in paths for truth in ground_truth.load(path)])
            for truth in sets[-1]:
                open_regular(truth.path).close()
        check_apart(*sets)
    except PenstockError as exc:
        yield fail("windows", str(exc), remedy)
    except OSError as exc:
        yield fail("windows", f"{exc.filename}: {exc.strerror}", remedy)
    else:
        yield ok("windows", f"{len(sets[0])} captures teach, {len(sets[1])} judge; read when the service starts")


def certificates(config: AggregatorConfig) -> Iterator[Finding]:
    """Look until when the certificates hold that the broker is met with, and who may read the key."""
    if config.broker.url.startswith("mqtt://"):
        return
    for name in ("ca", "cert"):
        path = getattr(config.broker, name)
        try:
            certificate = first_to_end(path)
        except (OSError, ValueError) as exc:
            why = getattr(exc, "strerror", None) or "no certificate in PEM"
            yield fail("certificate", f"broker.{name}: {path}: {why}", "docs/aggregator.md says how to make them")
            continue
        yield expiry(f"broker.{name}", certificate, renewed=RESTARTED)
    key = config.broker.key
    mend = f"sudo chown {USER}: {key} && sudo chmod 0600 {key}"
    try:
        with open_regular(key) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as exc:
        yield fail("keys", f"broker.key: {key}: {exc.strerror}", mend)
        return
    if mode & OTHERS:
        yield fail("keys", f"broker.key: {key} has mode {mode:04o}, wanted 0600: others may read it", mend)
    else:
        yield ok("keys", f"broker.key: {key}, mode {mode:04o}")


def broker(config: AggregatorConfig, *, timeout_s: float) -> Iterator[Finding]:
    """Connect as a worker does, and try what the ACL lets this certificate do."""
    place = config.broker.url
    try:
        answer = ask(config.broker, fleet=config.fleet.name, timeout_s=timeout_s)
    except ssl.SSLError as exc:
        seen = f"{place}: TLS: {getattr(exc, 'verify_message', '') or exc.reason or exc}"
        yield fail("broker", seen, "broker.ca must have signed the broker's certificate, for this very name")
    except socket.gaierror as exc:
        yield fail("broker", f"{place}: no address: {exc.strerror}", "broker.url, or the resolver of this machine")
    except PenstockError as exc:
        yield fail("broker", str(exc), f"[broker] in {SAMPLE}")
    except OSError as exc:
        seen = f"{place}: {exc.strerror or 'no answer in time'}"
        yield fail("broker", seen, "is it running, and does a firewall let us through? gateways' messages wait there")
    else:
        if answer.refused:
            yield fail("broker", f"{place}: refused: {answer.refused}", "is our certificate by a CA the broker knows?")
            return
        yield ok("broker", f"{answer.place}: lets us in{'' if answer.certificate else ', without TLS'}")
        if answer.certificate is not None:
            served = x509.load_der_x509_certificate(answer.certificate)
            yield expiry("broker's certificate", served, renewed="restart the broker")
        if answer.lacking:
            yield fail("rights", f"may not: {', '.join(answer.lacking)}", ACL)
        if answer.beyond:
            yield fail("rights", f"may, and needs not: {', '.join(answer.beyond)}", ACL)
        if not answer.lacking and not answer.beyond:
            yield ok("rights", "writes rounds, anchors, orders, bundles; no verdict, and nothing no rule names")


def _key_remedy(path: Path) -> str:
    mend = f"sudo chown {USER}: {path} && sudo chmod 0600 {path}"
    if not os.path.lexists(path):
        return f"sudo /opt/penstock/current/bin/penstock-export keygen {path} && {mend}"
    return mend


def _raw(key: object) -> bytes:
    octets: bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)  # type: ignore[attr-defined]
    return octets

"""A PostgreSQL server for tests: a cluster of its own in a temporary folder, on a Unix socket there and on loopback.

PostgreSQL refuses to run as root, so a test that is root runs it as the user its package made. What is never tested
here is a power cut, so it does not sync; its log stands in its folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from tests.ports import free_port

USER = "postgres"  # that of Debian's package
DATABASE = "penstock"
PASSWORD = "a secret of tests"
PATIENCE_S = 60


class NoPostgres(Exception):
    """There is no server to start; the message says what is missing."""


def find_binaries() -> Path:
    """Return the folder of the newest server's programs."""
    found = shutil.which("postgres")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    folders += [Path(found).resolve().parent] if found else []
    usable = [path for path in folders if (path / "initdb").exists() and (path / "pg_ctl").exists()]
    if not usable:
        raise NoPostgres("no PostgreSQL server: apt-get install postgresql")
    return usable[-1]


class Cluster:
    """One server. `start` and `crash` may follow each other."""

    def __init__(self, *settings: str) -> None:
        self._binaries = find_binaries()
        self._account = pwd.getpwnam(USER) if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
        self.data, self.port = self.folder / "data", free_port()
        self._settings = settings
        self._stores = 0
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        for path in (self.folder, secret):
            if self._account is not None:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        told = ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        self._do(["initdb", "-D", str(self.data), "-U", DATABASE, f"--pwfile={secret}", *told])

    def start(self) -> None:
        """Start the server; return when it answers."""
        settings = [
            f"port={self.port}", f"unix_socket_directories={self.folder}", "listen_addresses=127.0.0.1", "fsync=off",
            "log_statement=all", "max_connections=200", *self._settings,
        ]  # fmt: skip
        told = [f"-c {each}" for each in settings]
        self._control("start", "-l", str(self.folder / "log"), "-o", " ".join(told))

    def crash(self) -> None:
        """End it without a checkpoint and without a word to its clients."""
        self._control("stop", "-m", "immediate")

    def restart(self) -> None:
        """End it as an upgrade does, clients thrown out, and start it again."""
        self._control("stop", "-m", "fast")
        self.start()

    def with_certificate(self, cert: Path, key: Path) -> None:
        """Let it talk TLS from now on."""
        for path, name in ((cert, "server.crt"), (key, "server.key")):
            place = self.data / name
            shutil.copyfile(path, place)
            place.chmod(0o600)
            if self._account is not None:
                os.chown(place, self._account.pw_uid, self._account.pw_gid)
        self._settings += ("ssl=on",)
        self.restart()

    def remove(self) -> None:
        """End it where it runs, and take its folder away."""
        if (self.data / "postmaster.pid").exists():
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, *options: str, schema: str = "public", over_tcp: bool = False) -> str:
        """Return the URL of a schema, by which one database holds a store for every test."""
        where = f"127.0.0.1:{self.port}" if over_tcp else ""
        told = [*options, f"options={quote(f'-c search_path={schema}')}"]
        told += [] if over_tcp else [f"host={self.folder}", f"port={self.port}"]
        return f"postgresql://{DATABASE}@{where}/postgres?{'&'.join(told)}"

    def new_store(self) -> str:
        """Return the URL of a store that is not there yet."""
        self._stores += 1
        schema = f"store{self._stores}"
        with self.connect() as db:
            db.execute(f"CREATE SCHEMA {schema}")
        return self.url(schema=schema)

    def connect(self, url: str = ""):
        """Return a connection as an administrator has one, each statement for itself."""
        import psycopg

        return psycopg.connect(url or self.url(), autocommit=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _control(self, what: str, *words: str) -> None:
        self._do(["pg_ctl", what, "-D", str(self.data), "-w", "-s", "-t", str(PATIENCE_S), *words])

    def _do(self, words: Sequence[str]) -> None:
        account = self._account
        who = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        # What a server inherits it keeps open: no pipe of ours, or waiting for its end would never end.
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [str(self._binaries / words[0]), *words[1:]], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, timeout=2 * PATIENCE_S, check=False, env=environment, **who,
            )  # fmt: skip
            said.seek(0)
            assert done.returncode == 0, f"{' '.join(words)}: {said.read().decode(errors='replace')}"

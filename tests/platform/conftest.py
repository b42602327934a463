"""MLflow servers that ask for passwords, on sqlite and on PostgreSQL, to be killed at will; a model's description."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from maskray.model.config import Category, InputConfig, LabelMap, ModelConfig, ModelSpec

ADMIN, TRAINER, READER = "admin", "trainer", "reader"
START_SECONDS = 600  # on a machine whose cores are busy
PASSWORDS = {ADMIN: "admin-of-a-test-server", TRAINER: "trainer-of-a-test-server", READER: "reader-of-a-test-server"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class TrackingServer:
    """A real tracking server that asks for passwords, on one store, to be started and killed at will."""

    folder: Path
    database: str  # URI without the database's name
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.folder / "log"

    def start(self):
        (self.folder / "auth.ini").write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {self.database}auth.db\nadmin_username = {ADMIN}\n"
            f"admin_password = {PASSWORDS[ADMIN]}\nauth_cache_ttl_seconds = 60\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"{self.database}mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "store")]
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-a-test-server",
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
        }
        with self.log.open("ab") as log:
            # A group of its own: a kill takes the worker along with its parent.
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, start_new_session=True
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=10).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self):
        """End the server as a power cut would."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait(timeout=300)
            self.process = None

    def create_users(self):
        """A trainer, who owns what he makes, and a reader."""
        from mlflow.server.auth.client import AuthServiceClient

        with pytest.MonkeyPatch.context() as patch:
            log_in(patch, ADMIN)
            for name in (TRAINER, READER):
                AuthServiceClient(self.uri).create_user(name, PASSWORDS[name])


def log_in(patch, user):
    patch.setenv("MLFLOW_TRACKING_USERNAME", user)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[user])


def pytest_collection_modifyitems(items):
    """A test that asks for a server takes, by itself, the six seconds or more in which the server starts."""
    for item in items:
        values = item.callspec.params.items() if hasattr(item, "callspec") else ()
        asked = {*getattr(item, "fixturenames", ()), *(value for _, value in values if isinstance(value, str))}
        if asked & {"sqlite_server", "postgres_server"} or ("tracking", "server") in values:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow-server")
    server = TrackingServer(folder, f"sqlite:///{folder}/").start()
    try:
        server.create_users()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL cluster of Debian's package, run by another user where the tests are run by root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = "postgres" if os.geteuid() == 0 else None
    # Below pytest's own folder others may not read.
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=os.environ["MASKRAY_TESTS_FOLDER"]))
    port = free_port()
    try:
        if user is not None:
            shutil.chown(folder, user)
        bin_folder = programs[-1].parent
        asked = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        initdb = [bin_folder / "initdb", "-D", folder / "data", "-U", "maskray", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, **asked)
        options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
        cluster = subprocess.Popen([bin_folder / "postgres", "-D", folder / "data", *options], **asked)
        try:
            create_databases(port, cluster)
            yield f"postgresql+psycopg2://maskray@127.0.0.1:{port}/"
        finally:
            cluster.send_signal(3)  # at once: nothing of it is kept
            cluster.wait(timeout=300)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_databases(port, cluster):
    import psycopg2

    until, connection = time.monotonic() + START_SECONDS, None
    while connection is None:
        assert cluster.poll() is None, cluster.stderr.read()
        try:
            connection = psycopg2.connect(host="127.0.0.1", port=port, user="maskray", dbname="postgres")
        except psycopg2.OperationalError:
            assert time.monotonic() < until, "PostgreSQL does not answer"
            time.sleep(0.1)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in ("mlflow.db", "auth.db"):
            cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory, postgres):
    server = TrackingServer(tmp_path_factory.mktemp("mlflow-postgres"), postgres).start()
    try:
        server.create_users()
        yield server
    finally:
        server.kill()


@pytest.fixture
def as_trainer(monkeypatch):
    """This process is known to servers as the trainer."""
    log_in(monkeypatch, TRAINER)


@pytest.fixture
def as_reader(monkeypatch):
    """A function after which this process is known as the reader."""
    return lambda: log_in(monkeypatch, READER)


@pytest.fixture(scope="session")
def spec():
    labels = LabelMap(categories=(Category(id=1, name="circle"), Category(id=7, name="square")))
    return ModelSpec(model=ModelConfig(), input=InputConfig(), labels=labels)

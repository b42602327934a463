"""`maskray serve` on a machine of many users, programs and proxies: who may look, what is listened at, what ends it."""

import contextlib
import io
import os
import signal
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from server_process import (
    CONTROLLER,
    GATEWAY,
    MODEL,
    children_of,
    connections,
    find_child,
    listeners,
    running,
    wait_for_answer,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]
STRANGER = 65534
PATIENT = ("--set", "away_seconds=600")  # the machine of tests may be so busy that a gateway takes minutes to start
# Ray takes the memory for full all the time, and a proxy is named at which nobody listens.
TROUBLE = {
    "RAY_memory_usage_threshold": "0.001",
    "http_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
}


@pytest.fixture(scope="module")
def started(model_folder):
    with running(model_folder, *PATIENT, **TROUBLE) as (server, url):
        yield server, url
        server.send_signal(signal.SIGTERM)
        assert server.wait(600) == 0, server.stderr.read()


def test_image_of_eight_megabytes_is_answered(started):
    pixels = np.random.default_rng(0).integers(0, 256, (1600, 1800, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    assert len(file.getvalue()) > 8_000_000
    answer = httpx.post(
        f"{started[1]}/v1/predict", content=file.getvalue(), headers={"Content-Type": "image/png"}, timeout=600
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_sees_nothing_of_the_session(started):
    parent = Path(os.environ["RAY_TMPDIR"])
    own = parent / f"maskray-{os.getuid()}"
    session = (own / "ray" / "session_latest").resolve()
    lines = list(own.glob("lines-*/*"))
    assert any(path.is_socket() for path in lines), "between gateway and replica"
    paths = [*lines, *(path for path in session.rglob("*") if not path.is_symlink())]
    assert any(path.is_socket() for path in paths)
    assert any(path.suffix == ".log" for path in paths)
    script = 'for path do if [ -e "$path" ] || [ -r "$path" ] || [ -w "$path" ]; then echo "$path"; fi; done'
    command = ["/bin/sh", "-c", script, "sh", str(parent), str(session), *map(str, paths)]
    told = subprocess.run(command, user=STRANGER, group=STRANGER, extra_groups=[], capture_output=True, text=True)
    assert told.stdout.split() == [str(parent)], "what tests make is open, to show that the question is asked rightly"


def test_only_serve_listens_beyond_this_machine(started):
    server, url = started
    processes = children_of(server.pid) | {server.pid: "maskray serve"}
    found = {title: listeners(process) for process, title in processes.items()}
    assert (f"127.0.0.1:{url.rpartition(':')[2]}") in set().union(*found.values())
    abroad = {title for title, places in found.items() if any(not place.startswith("127.0.0.1:") for place in places)}
    # Its servers between gateway and model, which ask for the token: tests/platform/cli/test_serve.py.
    assert [title for title in abroad if "ServeReplica" not in title] == []


def test_full_memory_ends_none_of_the_processes(started):
    """They would have been ended at their start, since the memory counts as full."""
    server, url = started
    assert httpx.get(f"{url}/healthz", timeout=300).status_code == 200
    for title in (CONTROLLER, GATEWAY, MODEL):
        assert Path(f"/proc/{find_child(server.pid, title)}/oom_score_adj").read_text().strip() == "0", title


def test_gateway_holds_no_torch(started):
    maps = Path(f"/proc/{find_child(started[0].pid, GATEWAY)}/maps").read_text()
    assert "libtorch" not in maps


@pytest.mark.parametrize("number", [0, 1, 50])
def test_killed_gateway_is_back_at_its_port_or_the_server_ends(started, number):
    server, url = started
    gateway = find_child(server.pid, GATEWAY)
    with connections(url, number):
        os.kill(gateway, signal.SIGKILL)
        assert wait_for_answer(url, lambda: server.poll() is None, 600), server.stderr.read()
    assert find_child(server.pid, GATEWAY) not in (None, gateway)


def test_server_ends_with_a_line_where_a_killed_gateway_does_not_come_back(model_folder):
    """Serve's controller, stopped, is there and starts no other; it was waited for two minutes."""
    with running(model_folder) as (server, url):
        controller = find_child(server.pid, CONTROLLER)
        os.kill(controller, signal.SIGSTOP)
        try:
            os.kill(find_child(server.pid, GATEWAY), signal.SIGKILL)
            assert server.wait(600) == 1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(controller, signal.SIGCONT)
        assert server.stderr.read() == f"error: nobody has listened at {url} for 15 s; the server is given up\n"
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, timeout=60)


def test_server_whose_raylet_is_killed_ends_with_a_line(model_folder):
    """Ray lets gateway and replica go on at the port, and nobody would start the next ones."""
    with running(model_folder) as (server, url):
        os.kill(find_child(server.pid, "raylet/raylet --"), signal.SIGKILL)
        assert server.wait(600) == 1
        assert server.stderr.read() == f"error: the raylet of the cluster has ended; the server at {url} is given up\n"
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, timeout=60)

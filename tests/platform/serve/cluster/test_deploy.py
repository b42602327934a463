"""What Ray Serve is asked for, and configurations that cannot be served; real deployments are tested elsewhere."""

import os

import pytest

from maskray.platform.job.serve_config import ServeConfig
from maskray.platform.serve.cluster.deploy import build_application, locate_files, url_of
from maskray.platform.serve.cluster.model_source import Source, find_source
from maskray.platform.serve.cluster.ray_environment import MESSAGE_BYTES, MOST_STARTS, PORTS, port_of_proxy, shorten
from maskray.platform.serve.http.api_keys import add_key
from maskray.platform.serve.model.rollout import Target

FIRST = Target("shapes", "3", "/models/shapes")


def replicas_of(config):
    """The options of the model's deployment, as Serve reads them."""
    gateway = build_application(Source(FIRST), config)._bound_deployment
    return gateway.init_args[0]._bound_deployment._deployment_config


def test_number_of_replicas_is_fixed_unless_a_most_is_given():
    fixed = replicas_of(ServeConfig(num_replicas=3))
    assert (fixed.num_replicas, fixed.autoscaling_config) == (3, None)
    scaled = replicas_of(ServeConfig(num_replicas=1, max_replicas=4, max_batch_size=2)).autoscaling_config
    assert (scaled.min_replicas, scaled.max_replicas, scaled.target_ongoing_requests) == (1, 4, 4)
    with pytest.raises(ValueError, match="max_replicas 1 is less than num_replicas 2"):
        ServeConfig(num_replicas=2, max_replicas=1)


def test_alias_is_followed_and_a_folder_is_not():
    followed = build_application(Source(FIRST, "champion", "sqlite:///mlflow.db"), ServeConfig())._bound_deployment
    alias_watcher = followed.init_args[1]._bound_deployment
    assert alias_watcher.name == "AliasWatcher"
    assert alias_watcher.init_args[:3] == ("shapes", "champion", "sqlite:///mlflow.db")
    assert build_application(Source(FIRST), ServeConfig())._bound_deployment.init_args[1] is None


def test_bound_of_the_queue_follows_batches_and_replicas():
    assert ServeConfig(max_batch_size=4, num_replicas=2).most_waiting == 64
    assert ServeConfig(max_batch_size=4, num_replicas=1, max_replicas=3).most_waiting == 96
    assert ServeConfig(max_waiting=5).most_waiting == 5


def test_files_that_cannot_be_used_are_refused_before_anything_starts(tmp_path):
    keys = tmp_path / "keys.jsonl"
    with pytest.raises(ValueError, match="not readable as a key file"):
        locate_files(ServeConfig(api_keys_file=str(keys)))
    keys.write_text("")
    with pytest.raises(ValueError, match="holds no key, nobody could ask anything"):
        locate_files(ServeConfig(api_keys_file=str(keys)))
    with pytest.raises(ValueError, match=r"serve\.log_file: there is no folder"):
        locate_files(ServeConfig(log_file=str(tmp_path / "absent" / "log")))


def test_relative_files_are_found_from_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_key("keys.jsonl", "one")
    config = locate_files(ServeConfig(api_keys_file="keys.jsonl", log_file="log"))
    assert (config.api_keys_file, config.log_file) == (str(tmp_path / "keys.jsonl"), str(tmp_path / "log"))


def test_alias_without_a_registry_is_refused():
    with pytest.raises(ValueError, match="needs a tracking server"):
        find_source("models:/shapes@champion", None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("a.example", "http://a.example:8000"),
    ],
)
def test_url_is_one_that_a_client_here_can_use(host, url):
    assert url_of(host, 8000) == url


def test_proxy_leaves_its_port_to_a_gateway_that_listens_itself(monkeypatch, forget_hops):
    forget_hops(monkeypatch)
    config = ServeConfig(port=0)
    assert port_of_proxy(config) == 0
    shortened = shorten(config)
    assert shortened.port > 0
    assert port_of_proxy(shortened) not in (0, shortened.port)
    assert port_of_proxy(config.model_copy(update={"port": shortened.port + 1})) == shortened.port + 1
    monkeypatch.setenv(PORTS[0], "1")  # left behind by a former server, or by someone's hand
    again = shorten(config)
    assert [os.environ[name] for name in PORTS] == [str(again.port), str(again.port + MOST_STARTS)]


@pytest.mark.parametrize(
    ("limits", "num_bytes"),
    [
        ({}, 4 * 50_000_000 + 2**24),
        ({"max_request_bytes": 500_000_000}, 500_000_000 + 2**24),
        ({"max_image_pixels": 10**9}, 2**31 - 1),
    ],
)
def test_messages_hold_every_image_and_answer_allowed(monkeypatch, forget_hops, limits, num_bytes):
    forget_hops(monkeypatch)
    config = ServeConfig(port=0, **limits)
    application = build_application(Source(FIRST), config)._bound_deployment
    for deployment in (application, application.init_args[0]._bound_deployment):
        assert deployment.ray_actor_options["runtime_env"]["env_vars"] == {MESSAGE_BYTES: str(num_bytes)}
    monkeypatch.setenv(MESSAGE_BYTES, "1")
    config = shorten(config)
    assert os.environ[MESSAGE_BYTES] == str(num_bytes)
    own = build_application(Source(FIRST), config)._bound_deployment
    assert "runtime_env" not in own.ray_actor_options, "its processes inherit it, and start quicker so"

"""Images per second and milliseconds that the server adds, beside the bare model on the same cores in the same run.

    python benchmarks/serving.py --model FOLDER --images FOLDER    throughput and latency, by turns with the bare loop
    python benchmarks/serving.py ... --kill                        a replica is killed under load

The bare loop is what the server is there for and nothing else: bytes decoded, the model run, COCO results made, by the
same code on as many threads as the server's replicas have together, in batches of --batch (1 for the latency). Both are
processes of their own, and the other one is idle meanwhile. Without --images, scenes of 480 x 640 are drawn; without
--model, an untrained ResNet-50-FPN on their 480 pixels is taken, made to find 20 objects everywhere. The server costs
the cores a fixed time for a request, so a model that is quicker than this one reaches a smaller part of its own rate.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

os.environ["RAY_AUTH_MODE"] = os.environ.get("RAY_AUTH_MODE", "disabled")

from serving_load import HEADERS, kill

from maskray.platform.job.serve_config import Runtime

GOAL_RATIO = 0.95
GOAL_ADDED_MS = 5.0


def draw_images(folder: Path) -> list[bytes]:
    """Scenes of 480 x 640 pixels as JPEG."""
    from maskray.platform.data.synthetic.dataset import synthesize

    return read_images(Path(synthesize(folder, 24, seed=0, height=480, width=640).images))


def read_images(folder: Path) -> list[bytes]:
    """The files of a folder, by name."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]


def make_model(folder: Path) -> Path:
    """An untrained model that finds something everywhere."""
    import torch

    from maskray.model.build_model import build_model
    from maskray.model.config import BackboneConfig, Category, InputConfig, LabelMap, ModelConfig, ModelSpec
    from maskray.platform.files.model_folder import write_model_folder

    config = ModelConfig(
        backbone=BackboneConfig(name="resnet50"),
        inference={"score_threshold": 0.0, "detections_per_image": 20},
    )
    labels = LabelMap(categories=(Category(id=1, name="thing"),))
    spec = ModelSpec(model=config, input=InputConfig(shorter_edge=480), labels=labels)
    torch.manual_seed(0)
    return write_model_folder(folder, build_model(spec.model, spec.input, spec.labels.num_classes), spec)


def bare_loop(orders: Connection, model: str, threads: int, runtime: Runtime) -> None:
    """The peer: for each order (images, batch size) the seconds of every batch, without a server."""
    import torch

    from maskray.platform.data.decode import decode_image
    from maskray.platform.inference.engine import Engine, open_predictor

    # A thread beside the main one, as the replica has: glibc treats its memory otherwise. Loading there too leaves
    # OpenMP with threads for one pool alone; with two of them it lets none spin for work, and small models take longer.
    worker = concurrent.futures.ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
    predictor = worker.submit(open_predictor, model, "cpu", Engine(runtime), threads).result()

    def predict(batch: list[bytes]) -> None:
        predictor.predict([decode_image(data) for data in batch], range(len(batch)))

    while True:
        images, batch_size = orders.recv()
        seconds = []
        for start in range(0, len(images), batch_size):
            began = time.perf_counter()
            worker.submit(predict, images[start : start + batch_size]).result()
            seconds.append(time.perf_counter() - began)
        orders.send(seconds)


class Bench:
    """A server, the bare loop, and the clients of the server."""

    def __init__(self, options: argparse.Namespace, url: str, bare: Connection, images: list[bytes]) -> None:
        self.options, self.url, self.bare, self.images = options, url, bare, images

    def connect(self) -> http.client.HTTPConnection:
        """A client that takes next to nothing of the cores that the model is timed on."""
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=300)

    def ask(self, client: http.client.HTTPConnection, data: bytes) -> float:
        """Seconds until the answer is there."""
        began = time.perf_counter()
        client.request("POST", "/v1/predict", data, HEADERS)
        answer = client.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - began
        assert answer.status == 200, body
        return seconds

    def measure_bare(self, images: list[bytes], batch_size: int) -> list[float]:
        """Seconds of each batch of the bare loop."""
        self.bare.send((images, batch_size))
        return self.bare.recv()

    def measure_throughput(self, images: list[bytes]) -> float:
        """Images per second of as many clients as fill two batches of every replica."""
        waiting = iter(images)

        def work() -> None:
            with contextlib.closing(self.connect()) as client:
                for data in waiting:
                    self.ask(client, data)

        num_clients = 2 * self.options.batch * self.options.replicas
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(num_clients) as clients:
            for done in [clients.submit(work) for _ in range(num_clients)]:
                done.result()
        return len(images) / (time.perf_counter() - began)

    def measure_latency(self, images: list[bytes]) -> dict[str, list[float]]:
        """Seconds of each image alone, in the bare loop and then from the server: so both meet the same noise."""
        with contextlib.closing(self.connect()) as client:
            pairs = [(*self.measure_bare([data], 1), self.ask(client, data)) for data in images]
        return {"bare": [bare for bare, _ in pairs], "server": [server for _, server in pairs]}

    def compare(self) -> None:
        """Rounds of both by turns, and the medians."""
        number, batch = self.options.pictures, self.options.batch
        images = list(itertools.islice(itertools.cycle(self.images), number))
        rates: dict[str, list[float]] = {"bare": [], "server": []}
        latencies: dict[str, list[float]] = {"bare": [], "server": []}
        self.measure_bare(self.images, batch)
        self.measure_throughput(self.images)
        for _ in range(self.options.rounds):
            rates["bare"].append(number / sum(self.measure_bare(images, batch)))
            rates["server"].append(self.measure_throughput(images))
            for who, seconds in self.measure_latency(images[: max(10, number // 2)]).items():
                latencies[who] += seconds
        ours, theirs = statistics.median(rates["server"]), statistics.median(rates["bare"])
        reached = "reached" if ours / theirs >= GOAL_RATIO else "not reached"
        print(f"throughput, batches of {batch}: server {ours:.2f} images/s, bare loop {theirs:.2f}, ratio of medians "
              f"{ours / theirs:.3f}  goal {GOAL_RATIO} {reached}")  # fmt: skip
        print(f"  rounds: server {_list(rates['server'])}, bare {_list(rates['bare'])}")
        p50 = {who: 1e3 * statistics.median(values) for who, values in latencies.items()}
        added = p50["server"] - p50["bare"]
        reached = "reached" if added <= GOAL_ADDED_MS else "not reached"
        print(f"latency of one client: p50 server {p50['server']:.1f} ms, bare loop {p50['bare']:.1f} ms, added "
              f"{added:.1f} ms  goal {GOAL_ADDED_MS:g} ms {reached}", flush=True)  # fmt: skip


def _list(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder")
    parser.add_argument("--images", type=Path, help="folder of encoded images")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the bare loop, and of all replicas")
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="torch", help="of both")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=32, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kill", action="store_true", help="kill a replica in place of the comparison")
    options = parser.parse_args()
    from maskray.platform.job.serve_config import ServeConfig
    from maskray.platform.machine.environment import processor_name
    from maskray.platform.machine.ray_cluster import connect
    from maskray.platform.serve.cluster.deploy import deploy
    from maskray.platform.serve.cluster.ray_environment import shorten

    with tempfile.TemporaryDirectory() as folder:
        images = read_images(options.images) if options.images else draw_images(Path(folder) / "pictures")
        model = options.model or str(make_model(Path(folder) / "model"))
        bare, other = multiprocessing.get_context("spawn").Pipe()
        loop = multiprocessing.get_context("spawn").Process(
            target=bare_loop, args=(other, model, options.threads, options.runtime), daemon=True
        )
        loop.start()
        cpus = options.threads / options.replicas
        config = ServeConfig(port=0, num_replicas=options.replicas, cpus_per_replica=cpus, max_batch_size=options.batch)
        config = shorten(config.model_copy(update={"runtime": options.runtime}))
        connect(None, options.threads)
        server = deploy(model, config)
        print(f"{processor_name()}: {len(images)} images, {options.replicas} replicas of {cpus:g} CPUs by "
              f"{options.runtime}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")  # fmt: skip
        try:
            bench = Bench(options, server.url, bare, images)
            if options.kill:
                kill(server.url, images, options.replicas)
            else:
                bench.compare()
        finally:
            server.stop()
            loop.kill()


if __name__ == "__main__":
    sys.exit(main())

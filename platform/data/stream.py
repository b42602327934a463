"""Batches for training: rows read by Ray Data in the drawn order, decoded and collated ahead of the training loop.

The position is the global step and nothing else: the same (config, step, rank) gives the same tensors, whatever ran
before. A micro-batch is what one rank gets for one accumulation part of one step.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from maskray.model.outlines import Outlines
from maskray.model.structures import Batch, Targets
from maskray.ops.outlines import OutlineTensors
from maskray.platform.data.batch import SampleBuilder, collate
from maskray.platform.data.keypoints import check_keypoints
from maskray.platform.data.manifest import Manifest
from maskray.platform.data.mixing import build_order
from maskray.platform.data.partners import Partners, read_planned, read_samples
from maskray.platform.data.row_reader import RowReader
from maskray.platform.job.config import StreamConfig

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")

# Less than a CPU each: training workers hold most of them, and a task that asks for more than is left waits in silence.
READ_TASK_CPUS = 0.25
DECODE_TASK_CPUS = 0.5
IMAGES_PER_READ_TASK = 32
IMAGES_PER_DECODE_TASK = 8
MICRO_BATCHES_PER_SEGMENT = 2048  # one execution of Ray Data; the next is planned when it is used up
BATCHES_AHEAD = 3
# Tasks with a share of a CPU would otherwise run in any number, each in a process of its own, and fill the object
# store with what is wanted minutes later.
READ_TASKS = 2
READ_AHEAD_BYTES = 256_000_000


@dataclass
class Loaded:
    """A micro-batch, and the images that had to be left out of it: (image id, reason)."""

    batch: Batch | None
    bad: list[tuple[int, str]]


class BatchPlan:
    """Which rows one rank trains on, by micro-batch: number `step * accumulate_steps + part`, from 0."""

    def __init__(self, manifest: Manifest, config: StreamConfig, rank: int, num_ranks: int) -> None:
        """ValueError where the batch does not divide into ranks and parts, or there are too few images."""
        self._parts = config.accumulate_steps
        self._rank, self.num_ranks = rank, num_ranks
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank {rank} of {num_ranks}")
        if config.images_per_batch % (num_ranks * self._parts):
            raise ValueError(
                f"train.images_per_batch {config.images_per_batch} does not divide into {num_ranks} workers "
                f"x train.accumulate_steps {self._parts}"
            )
        self.images_per_micro_batch = config.images_per_batch // (num_ranks * self._parts)
        self._order = build_order(manifest, config)

    def first(self, step: int) -> int:
        """Number of the first micro-batch of a global step."""
        return step * self._parts

    def tasks(self, numbers: range, images: int) -> list[range]:
        """Micro-batches to be read together: so many images in all, or those of a window."""
        if self._order.window(numbers.start // self._parts) is None:
            most = max(1, images // self.images_per_micro_batch)
            return [numbers[start : start + most] for start in range(0, len(numbers), most)]
        together = itertools.groupby(numbers, lambda number: self._order.window(number // self._parts))
        lengths = [sum(1 for _ in members) for _, members in together]
        ends = list(itertools.accumulate(lengths, initial=numbers.start))
        return [range(first, end) for first, end in itertools.pairwise(ends)]

    def rows(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draws (EpochOrder.draws) and global row indices of a micro-batch; all ranks and parts make the batch."""
        step, part = divmod(number, self._parts)
        shape = (self._parts, self.num_ranks, -1)
        draws, rows = (values.reshape(shape) for values in (self._order.draws(step), self._order.batch(step)))
        return draws[part, self._rank], rows[part, self._rank]


def train_batches(
    manifest: Manifest, config: StreamConfig, rank: int, num_ranks: int, start_step: int
) -> Iterator[Batch]:
    """The micro-batches of a rank from a global step on, endless: accumulate_steps of them for each step.

    Rows are read by tasks of Ray Data, which must be running; data.decode says whether they also decode. Works in
    a training worker and in a plain process. ValueError naming image and shard where an image cannot be read,
    unless data.max_bad_images allows to leave it out of its batch (counted per rank, logged).
    """
    plan = BatchPlan(manifest, config, rank, num_ranks)
    load = _load_decoded if config.data.decode == "map" else _Assembler(build_samples(manifest, config))
    tables = _stream_tables(manifest, config, plan, start_step)
    yield from _admit(_ahead(load, tables, config.threads), config.data.max_bad_images)


def local_batches(
    manifest: Manifest, config: StreamConfig, rank: int, num_ranks: int, start_step: int
) -> Iterator[Batch]:
    """The same batches as train_batches, read and decoded in this thread, without Ray."""
    plan = BatchPlan(manifest, config, rank, num_ranks)
    reader = RowReader(manifest)
    builder, partners = build_samples(manifest, config), build_partners(manifest, config)

    def load(number: int) -> Loaded:
        draws, rows = plan.rows(number)
        return _assemble(builder, read_samples(reader, partners, rows, draws))

    yield from _admit(map(load, itertools.count(plan.first(start_step))), config.data.max_bad_images)


def eval_rows(manifest: Manifest, rank: int, num_ranks: int) -> list[int]:
    """Global row indices that a rank evaluates: of all ranks together, every row exactly once."""
    return list(range(rank, manifest.num_images, num_ranks))


def build_samples(manifest: Manifest, config: StreamConfig) -> SampleBuilder:
    """What turns a row into the training sample that is asked for; ValueError where the labels lack its keypoints."""
    check_keypoints(config.model, manifest.labels, flip=config.data.mirrors)
    return SampleBuilder(config.data, config.input, config.model, manifest.labels, config.seed)


def build_partners(manifest: Manifest, config: StreamConfig) -> Partners:
    """What says from which rows objects are pasted."""
    return Partners(config.seed, manifest.num_images, config.data.augmentation.copy_paste)


def _assemble(builder: SampleBuilder, rows: Sequence[Mapping[str, Any]]) -> Loaded:
    samples, bad = [], []
    for row in rows:
        try:
            samples.append(builder.build(row, int(row["draw"])))
        except ValueError as error:
            bad.append((int(row["image_id"]), f"shard {row['shard']}: {error}"))
    multiple, side = builder.model.backbone.size_divisor, builder.data.augmentation.crop_size or 0
    return Loaded(collate(samples, multiple, side) if samples else None, bad)


def _admit(loaded: Iterable[Loaded], max_bad_images: int) -> Iterator[Batch]:
    """Pass batches on and keep count of the original image that were left out."""
    left_out: set[int] = set()
    for item in loaded:
        for image_id, reason in item.bad:
            if image_id not in left_out:
                left_out.add(image_id)
                if len(left_out) > max_bad_images:
                    raise ValueError(f"{reason} ({len(left_out)} unreadable images, {max_bad_images} allowed)")
                log.warning("left out: %s (%d of at most %d)", reason, len(left_out), max_bad_images)
        if item.batch is None:
            raise ValueError(f"no image of a batch can be read: {item.bad[0][1]}")
        yield item.batch


def _ahead(load: Callable[[Item], Result], items: Iterator[Item], threads: int) -> Iterator[Result]:
    """Results in order, computed by threads while earlier ones are used (decoding releases the interpreter lock)."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="maskray-data") as pool:
        try:
            for item in items:
                pending.append(pool.submit(load, item))
                if len(pending) > max(threads, BATCHES_AHEAD):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _stream_tables(manifest: Manifest, config: StreamConfig, plan: BatchPlan, start_step: int) -> Iterator[Any]:
    """One Arrow table per micro-batch, endless, segment after segment of Ray Data executions."""
    start = plan.first(start_step)
    last = plan.first(config.last_step)
    while True:
        # nothing is read in vain behind the last step, yet whoever goes on beyond it gets batches
        end = start + MICRO_BATCHES_PER_SEGMENT
        end = min(end, last) if start < last else end
        yield from _stream_segment(manifest, config, plan, range(start, end))
        start = end


def _stream_segment(manifest: Manifest, config: StreamConfig, plan: BatchPlan, numbers: range) -> Iterator[Any]:
    import ray.data  # 2 s: local_batches does without

    from maskray.platform.data.paused_scheduling import PausedScheduling

    decode, partners = config.data.decode == "map", build_partners(manifest, config)
    per_task = IMAGES_PER_DECODE_TASK if decode else IMAGES_PER_READ_TASK
    tables = [_plan_table(plan, some) for some in plan.tasks(numbers, per_task)]
    num_tasks = READ_TASKS
    if decode:
        num_tasks = max(READ_TASKS, int(ray.cluster_resources()["CPU"]) // plan.num_ranks)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    context.execution_no_progress_timeout_s = -1  # nothing is taken in an evaluation, however long that lasts
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, PausedScheduling]
    context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(
        object_store_memory=READ_AHEAD_BYTES
    )
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_arrow(tables).map_batches(
            _read_decoded if decode else read_planned,
            fn_args=(RowReader(manifest), partners, *((build_samples(manifest, config),) if decode else ())),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=DECODE_TASK_CPUS if decode else READ_TASK_CPUS,
            compute=ray.data.TaskPoolStrategy(size=min(num_tasks, len(tables))),
        )
        rows = 1 if decode else plan.images_per_micro_batch
        batches = iter(dataset.iter_batches(batch_size=rows, batch_format="pyarrow", prefetch_batches=BATCHES_AHEAD))
    yield from batches


def _plan_table(plan: BatchPlan, numbers: range) -> Any:
    planned = [plan.rows(number) for number in numbers]
    return pa.table({"draws": [draws.tolist() for draws, _ in planned], "rows": [rows.tolist() for _, rows in planned]})


def _read_decoded(table: Any, reader: RowReader, partners: Partners, builder: SampleBuilder) -> Iterator[Any]:
    """Runs as a task: plans of micro-batches to collated tensors, a table of one row per micro-batch."""
    schema = pa.schema([("tensors", pa.large_binary()), ("bad", pa.string())])
    plans = table.to_pylist()
    reader.hold(row for entry in plans for row in entry["rows"])
    for entry in plans:
        loaded = _assemble(builder, read_samples(reader, partners, entry["rows"], entry["draws"]))
        yield pa.Table.from_pylist([{"tensors": _pack(loaded.batch), "bad": json.dumps(loaded.bad)}], schema=schema)


class _Assembler:
    """Encoded rows of one micro-batch to its batch, in a thread of this process."""

    def __init__(self, builder: SampleBuilder) -> None:
        self._builder = builder

    def __call__(self, table: Any) -> Loaded:
        return _assemble(self._builder, table.to_pylist())


def _load_decoded(table: Any) -> Loaded:
    (row,) = table.to_pylist()
    return Loaded(_unpack(row["tensors"]), [(image_id, reason) for image_id, reason in json.loads(row["bad"])])


def _pack(batch: Batch | None) -> bytes:
    """A batch as safetensors bytes, masks as outlines; empty for None."""
    if batch is None or batch.targets is None:
        return b""
    tensors = {name: getattr(batch, name) for name in ("images", "image_sizes", "image_ids", "original_sizes")}
    tensors["images"] = tensors["images"].permute(0, 2, 3, 1)  # as they lie in memory
    tensors |= {"boxes": batch.targets.boxes, "classes": batch.targets.classes}
    if batch.flipped is not None:
        tensors["flipped"] = batch.flipped
    for name in ("keypoints", "has_mask"):
        if (tensor := getattr(batch.targets, name)) is not None:
            tensors[name] = tensor
    if batch.targets.masks is not None:
        tensors |= {f"masks.{name}": tensor for name, tensor in batch.targets.masks.tensors._asdict().items()}
    return save_tensors(tensors)


def _unpack(data: bytes) -> Batch | None:
    if not data:
        return None
    tensors = load_tensors(data)
    tensors["images"] = tensors["images"].permute(0, 3, 1, 2)
    names = [f"masks.{name}" for name in OutlineTensors._fields]
    masks = None
    if names[0] in tensors:
        height, width = tensors["images"].shape[-2:]
        masks = Outlines(OutlineTensors(*(tensors.pop(name) for name in names)), (height, width))
    objects = [tensors.pop(name, None) for name in ("keypoints", "has_mask")]
    targets = Targets(tensors.pop("boxes"), tensors.pop("classes"), masks, *objects)
    return Batch(**tensors, targets=targets)

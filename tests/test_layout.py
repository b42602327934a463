"""The rules of the house that a machine can keep: who imports whom, names, lengths, packaging."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the ground up. An import goes to a lower floor, or stays in its own room; never to another room of its floor.
FLOORS = (
    ("ops",),
    ("model",),
    ("platform/job",),
    ("platform/files", "platform/machine"),
    ("platform/data", "platform/registry"),
    ("platform/inference",),
    ("platform/train", "platform/evaluation", "platform/export", "platform/serve/web"),
    ("platform/serve/http",),
    ("platform/serve/model",),
    ("platform/serve/cluster",),
    ("platform/runs",),
    ("platform/sweep", "platform/distill"),
    ("platform/job/kinds.py",),
    ("platform/job/schema.py", "platform/job/submission.py"),
    ("platform/job/cluster_jobs.py",),
    ("platform/api", "platform/cli"),
    ("api",),
)
# What of the world a part may import; what is not here is free.
WORLD = {
    "ops/build_extension.py": {"setuptools"},
    "ops": {"torch", "numpy"},
    "model/config.py": {"pydantic"},
    "model/config_base.py": {"pydantic"},
    "model/backbone_config.py": {"pydantic"},
    "model/combinations.py": {"pydantic"},
    "model/backbone/timm_network.py": {"torch", "timm"},
    "model/weights.py": {"torch", "safetensors", "torchvision"},
    "model": {"torch", "torchvision", "pydantic"},
    "platform/job/load.py": {"pydantic", "yaml"},
    "platform/job/yaml_tree.py": {"yaml"},
    "platform/job/submission.py": {"ray", "requests"},
    "platform/job/cluster_jobs.py": {"ray"},
    "platform/job": {"pydantic"},
    "platform/train/trainer.py": {"torch", "numpy"},
}
# Tests of a room as a whole and not of one of its modules.
ATTACKS = "platform/serve/attack"  # programs against the whole server
WHOLE_ROOM = {
    "model": {"detectron2_parity", "golden", "overfit", "paper_models", "torchvision_losses", "torchvision_parity",
              "trained_parts", "waiting"},
    "ops": {"multi_level_roi_align", "box_iou"},
}  # fmt: skip
NAMES_WITHOUT_MEANING = {"utils.py", "util.py", "common.py", "misc.py", "helpers.py", "helper.py"}
MOST_FILE_LINES = 300
MOST_FUNCTION_LINES = 50


def python_files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in found if "__pycache__" not in path.parts)


CODE = python_files("ops", "model", "platform", "api")
EVERYTHING = CODE + python_files("tests", "benchmarks", "docs")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def for_types_only(path: Path) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`, which never runs."""
    guards = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.If))
    return {
        inner for guard in guards if ast.unparse(guard.test) == "TYPE_CHECKING" for part in guard.body
        for inner in ast.walk(part)
    }  # fmt: skip


@cache
def imports_of(path: Path, with_types: bool = True) -> tuple[str, ...]:
    """Dotted names that a file imports anywhere in it, also in functions; `from a import b` gives a.b and a."""
    names: list[str] = []
    skipped = set() if with_types else for_types_only(path)
    for node in ast.walk(tree_of(path)):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def own_imports(path: Path, with_types: bool = True) -> set[Path]:
    """Files of the package that a file imports."""
    dotted = (name.split(".") for name in imports_of(path, with_types) if name.startswith("maskray."))
    candidates = {Path(*parts[1:]).with_suffix(".py") for parts in dotted if len(parts) > 1}
    candidates |= {Path("api", candidate) for candidate in candidates}  # api/api.py is maskray.api
    return {candidate for candidate in candidates if (ROOT / candidate).is_file()}


def place_of(path: Path) -> tuple[int, str]:
    """Floor and room of a file: the longest name of a room, or of a file with a place of its own, that fits."""
    fits = [
        (len(room), floor, room)
        for floor, rooms in enumerate(FLOORS)
        for room in rooms
        if str(path) == room or str(path).startswith(f"{room}/")
    ]
    assert fits, f"{path} has no floor: put it on one in {Path(__file__).name} before it is written"
    return max(fits)[1:]


def test_code_is_found():
    assert {"ops", "model", "platform", "api"} == {path.parts[0] for path in CODE}
    assert Path("platform/job/kinds.py") in own_imports(Path("platform/cli/main.py"))


def test_imports_go_down():
    places = {path: place_of(path) for path in CODE}
    wrong = [
        f"{path} ({places[path][1]}) imports {other} ({places[other][1]})"
        for path in CODE
        for other in own_imports(path)
        if not (places[other][0] < places[path][0] or places[other][1] == places[path][1])
    ]
    assert not wrong


def test_the_image_of_the_rooms_is_that_of_the_code():
    done = subprocess.run(
        [sys.executable, "-c", "import draw_rooms; print(draw_rooms.draw(), end='')"],
        capture_output=True,
        text=True,
        cwd=ROOT / "docs",
    )
    assert done.returncode == 0, f"does CONTRIBUTING.md say what every room is for?\n{done.stderr}"
    assert done.stdout == (ROOT / "docs" / "rooms.svg").read_text("utf-8"), "run python docs/draw_rooms.py"


def test_contributing_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"(?:platform|model|ops|tests|docs|jobs)/[\w./*-]+", text.replace("platform/__init__.py", ""))
    assert len(named) > 20
    assert [path for path in named if not list(ROOT.glob(path.rstrip("./")))] == []


def test_imports_have_no_circles():
    graph = {path: sorted(own_imports(path, with_types=False) & set(CODE)) for path in CODE}
    done: set[Path] = set()

    def walk(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(str(step) for step in (*trail, path))
        if path not in done:
            for other in graph[path]:
                walk(other, (*trail, path))
            done.add(path)

    for path in CODE:
        walk(path, ())


def test_imports_of_the_world():
    wrong = []
    for path in CODE:
        keys = [str(path), *(str(folder) for folder in path.parents)]
        allowed = next((WORLD[key] for key in keys if key in WORLD), None)
        roots = {name.split(".")[0] for name in imports_of(path)}
        if roots & {"api", "model", "ops", "tests", "benchmarks"}:
            wrong.append(f"{path}: import maskray.model, not a second copy of it")
        foreign = set() if allowed is None else roots - set(sys.stdlib_module_names) - {"maskray"} - allowed
        if foreign:
            wrong.append(f"{path} may import {sorted(allowed)} and the standard library, not {sorted(foreign)}")
    assert not wrong


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("maskray.api", "torch timm ray mlflow pandas numpy pydantic typer"),
        ("maskray.platform.cli.main", "torch timm ray mlflow pandas numpy"),
        ("maskray.platform.job.load", "torch timm ray mlflow pandas numpy typer"),
        ("maskray.platform.data.shards", "torch ray mlflow pandas"),
        ("maskray.platform.data.row_reader", "torch ray mlflow pandas"),
        ("maskray.platform.data.partners", "torch ray mlflow pandas"),
        ("maskray.platform.train.trainer", "ray mlflow"),
        ("maskray.model.build_model", "ray mlflow yaml timm"),
        # Small processes beside the model; torch is half a gigabyte.
        ("maskray.platform.serve.cluster.gateway", "torch timm mlflow"),
        ("maskray.platform.serve.cluster.alias_watcher", "torch timm mlflow ray"),
    ],
)
def test_heavy_packages_stay_out(module, absent):
    code = f"import sys, {module}; print(*(name for name in {absent.split()} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_no_init_files():
    found = [path for path in EVERYTHING if path.name == "__init__.py"]
    assert not found, "platform/__init__.py would shadow the standard library; import from the file that defines"


def test_tests_stand_where_the_mirrored_path_says():
    """tests/model/test_rpn.py tests model/rpn.py; test_rpn_losses.py would be a part of that, in a file of its own."""
    code = {str(path.parent): set() for path in CODE}
    for path in CODE:
        code[str(path.parent)].add(path.stem)
    lost = []
    for path in python_files("tests"):
        folder, name = str(path.relative_to("tests").parent), path.stem.removeprefix("test_")
        program = (ROOT / path).with_name(name)  # of the tests, such as tidy.py
        of_tests = program.is_dir() or program.with_suffix(".py").is_file()
        if not path.stem.startswith("test_") or folder in ("cluster", "jobs", ATTACKS, ".") or of_tests:
            continue
        stands = any(name == stem or name.startswith(f"{stem}_") for stem in code.get(folder, ()))
        if not stands and name not in WHOLE_ROOM.get(folder, ()):
            lost.append(str(path))
    assert not lost, "no module of that name in the mirrored folder"


def test_standard_platform_wins():
    code = "import platform; print(platform.__file__); platform.system()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert ROOT not in Path(done.stdout.strip()).parents or ".venv" in done.stdout


def test_names_mean_something():
    assert not [path for path in EVERYTHING if path.name in NAMES_WITHOUT_MEANING]


def test_every_package_is_listed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {"maskray" if path.parent == Path("api") else ".".join(("maskray", *path.parent.parts)) for path in CODE}
    assert set(packages) == folders, "a folder that is not listed vanishes from the wheel; one without code breaks it"


def test_the_public_module_is_the_one_file_of_its_folder():
    """Whatever else lay there would be a module of maskray, and stand before the folder of that name."""
    listed = {path.name for path in (ROOT / "api").iterdir()} - {"__pycache__"}
    assert listed == {"api.py", "py.typed"}
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert shipped["maskray"] == ["py.typed"], "or type checkers take every name for Any"


def test_files_are_short():
    others = (path for room in ("ops/csrc", "platform/serve/web") for path in (ROOT / room).rglob("*.*"))
    files = [*EVERYTHING, *(path.relative_to(ROOT) for path in others if "__pycache__" not in path.parts)]
    lines = {path: (ROOT / path).read_text(encoding="utf-8").count("\n") for path in files}
    assert not [f"{path} has {number} lines" for path, number in lines.items() if number >= MOST_FILE_LINES]


def test_files_say_what_they_hold():
    firsts = {path: (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0].rstrip() for path in EVERYTHING}
    wrong = [f"{path}: {first!r}" for path, first in firsts.items() if not first.endswith((".", ":"))]
    assert not wrong, "a file begins with a docstring, which begins with a sentence"


def test_functions_are_short():
    wrong = []
    for path in EVERYTHING:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = int(node.end_lineno or 0) - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= int(node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                if lines >= MOST_FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno} {node.name} has {lines} lines")
    assert not wrong


def test_nothing_of_one_machine():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: cannot tell what is tracked")
    pattern = re.compile(r"/work/(main|shared)|/root/|--(extra-)?index-url|--trusted-host|--find-links|pythonhosted")
    paths = [ROOT / line for line in listed.stdout.splitlines() if ROOT / line != Path(__file__).resolve()]
    texts = (path for path in paths if path.is_file() and path.suffix not in {".png", ".jpg", ".jpeg", ".npz"})
    found = [f"{path}: {match[0]}" for path in texts if (match := pattern.search(path.read_text("utf-8", "replace")))]
    assert not found


def test_no_loose_ends():
    marks = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b")
    found = [str(path) for path in EVERYTHING if marks.search((ROOT / path).read_text("utf-8"))]
    assert not found

"""How the extension is built and loaded: what is found, what is left out, and what is said when it is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maskray.ops import build_extension as build
from maskray.ops import extension

ROOT = Path(__file__).resolve().parents[2]


def fake_toolkit(folder, release):
    """A folder whose nvcc says that it is this release."""
    nvcc = folder / "bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
    nvcc.chmod(0o755)
    return folder


def test_torch_is_found_without_importing_it():
    code = "import sys; from maskray.ops.build_extension import find_torch as find; "
    code += "print(find().version, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [torch.__version__, "False"]


def test_torch_is_found_beside_an_isolated_build(monkeypatch):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert build.find_torch().cuda == torch.version.cuda


def test_missing_torch_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build.sysconfig, "get_paths", lambda: {"platlib": str(tmp_path), "purelib": str(tmp_path)})
    with pytest.raises(RuntimeError, match="install torch first"):
        build.find_torch()


@pytest.mark.parametrize(
    ("cuda", "release", "reason"),
    [
        (None, "13.0", "is a CPU build"),
        ("13.2", "12.8", "is CUDA 12.8, torch was built with CUDA 13.2"),
        ("13.2", "unreadable", "is CUDA unknown"),
        ("13.2", None, r"no CUDA toolkit at .* \(set CUDA_HOME\)"),
        ("13.2", "13.0", None),
    ],
)
def test_toolkit_is_taken_only_when_it_fits(monkeypatch, tmp_path, cuda, release, reason):
    home = tmp_path / "cuda"
    if release is not None:
        fake_toolkit(home, release)
    monkeypatch.setenv("CUDA_HOME", str(home))
    found, said = build.find_cuda(build.Torch(tmp_path, "2.15.0", cuda))
    if reason is None:
        assert (found, said) == (home, "")
    else:
        assert found is None
        assert re.search(reason, said)


def test_architectures():
    assert build.architecture_flags("8.0;9.0+PTX") == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]
    assert build.architecture_flags("9.0a 10.0") == [
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_100,code=sm_100",
    ]
    with pytest.raises(ValueError, match="TORCH_CUDA_ARCH_LIST: 'hopper'"):
        build.architecture_flags("hopper")


def test_an_object_is_made_again_only_when_what_it_is_made_from_changes(tmp_path):
    source, header = tmp_path / "a.cpp", tmp_path / "a.h"
    source.write_text('#include "a.h"\n')
    header.write_text("")

    def name(command=("c++",), toolchain="2.15", isa=""):
        return build.Compilation(source, list(command), [header], isa).object_file(tmp_path, toolchain)

    first = name()
    assert name() == first
    assert len({first, name(("c++", "-O3")), name(toolchain="2.16"), name(isa="avx2")}) == 4
    header.write_text("int a;\n")
    assert name() != first


def test_no_two_objects_share_a_name():
    sources = [*(ROOT / "ops/csrc").rglob("*.cpp"), *(ROOT / "ops/csrc").rglob("*.cu")]
    listed = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{source.relative_to(ROOT)}"' in listed for source in sources)
    assert len({(source.parent, source.stem) for source in sources}) == len(sources)


def test_a_missing_library_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setattr(extension, "__file__", str(tmp_path / "extension.py"))
    with pytest.raises(ImportError, match=r"operators are not built: .*_C\.abi3\.so is missing; build it with"):
        extension.load_extension()
    (tmp_path / "_C.abi3.so").write_bytes(b"\x7fELF truncated")
    with pytest.raises(ImportError, match=r"_C\.abi3\.so does not load beside torch"):
        extension.load_extension()


RESULTS = """
import hashlib, torch
from maskray.ops.roi_align import roi_align
from maskray.ops.nms import nms
generator = torch.Generator().manual_seed(0)
digest = hashlib.sha256()
for dtype in (torch.float32, torch.float64):
    features = torch.randn(2, 83, 30, 31, generator=generator, dtype=dtype, requires_grad=True)
    corner = torch.rand(60, 2, generator=generator, dtype=dtype) * 30
    boxes = torch.cat([corner, corner + torch.rand(60, 2, generator=generator, dtype=dtype) * 15], 1)
    for reduction in ("mean", "max"):
        pooled = roi_align(features, [boxes, boxes[:3]], 7, reduction=reduction)
        (grad,) = torch.autograd.grad(pooled.square().sum(), features)
        digest.update(pooled.detach().numpy().tobytes() + grad.numpy().tobytes())
    digest.update(nms(boxes, boxes[:, 0], 0.3).numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_every_instruction_set_gives_the_same_bits():
    digests = set()
    for isa in ("baseline", "avx2", "avx512"):
        environment = {**os.environ, "MASKRAY_CPU_ISA": isa}
        done = subprocess.run(
            [sys.executable, "-c", RESULTS], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


@pytest.mark.slow
def test_an_unknown_instruction_set_is_said():
    environment = {**os.environ, "MASKRAY_CPU_ISA": "sse9"}
    done = subprocess.run([sys.executable, "-c", RESULTS], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert "MASKRAY_CPU_ISA: expected baseline, avx2 or avx512" in done.stderr


HAS_TOOLKIT = build.find_cuda(build.find_torch())[0] is not None


@pytest.mark.skipif(not HAS_TOOLKIT, reason="no CUDA toolkit that fits torch")
def test_cuda_library_loads_and_registers_every_operator():
    assert (ROOT / "ops/_C_cuda.abi3.so").exists()
    extension.load_extension()
    for name in (
        "roi_align",
        "roi_align_backward",
        "roi_align_max",
        "roi_align_max_backward",
        "roi_pool",
        "roi_pool_backward",
        "nms_keep",
    ):
        for device in ("CPU", "CUDA"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"maskray::{name}", device)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TOOLKIT, reason="no CUDA toolkit that fits torch")
def test_a_cuda_source_compiles(tmp_path):
    torch_found = build.find_torch()
    home = build.find_cuda(torch_found)[0]
    command = [f"{home}/bin/nvcc", *build.NVCC_FLAGS, f"-DTORCH_TARGET_VERSION={build.TORCH_TARGET_VERSION}ULL"]
    command += [*build.architecture_flags("9.0"), *torch_found.includes, "-Werror", "all-warnings"]
    source = ROOT / "ops/csrc/cuda/nms.cu"
    subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "nms.o")], check=True, capture_output=True)
    assert (tmp_path / "nms.o").stat().st_size > 1000


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_libraries_use_no_symbol_of_the_unstable_abi():
    for library in (ROOT / "ops").glob("_C*.abi3.so"):
        names = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
        torch_names = [line.split()[-1] for line in names.stdout.splitlines() if "torch" in line or "c10" in line]
        assert torch_names
        assert all(name.startswith(("aoti_torch_", "torch_")) for name in torch_names)
        assert not any(name.startswith(("Py", "_Py")) for name in names.stdout.split())

"""That `make lint` finds what is wrong in C++: a planted mistake is named, sound code passes."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "tidy.py"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("int size = 3; return numbers.empty() ? 0 : size;", None),
        ("if (numbers.size() == 0) { return 0; } return 1;", "readability-container-size-empty"),
        (
            "int* none = nullptr; if (numbers.empty()) { return *none; } return 1;",
            "clang-analyzer-core.NullDereference",
        ),
    ],
)
def test_a_planted_mistake_is_named(tmp_path, body, found):
    source = tmp_path / "planted.cpp"
    source.write_text(f"#include <cstddef>\n#include <vector>\nint f(const std::vector<int>& numbers) {{ {body} }}\n")
    done = subprocess.run([sys.executable, PROGRAM, source], capture_output=True, text=True)
    if found is None:
        assert (done.returncode, done.stdout) == (0, "")
    else:
        assert done.returncode == 1
        assert found in done.stdout

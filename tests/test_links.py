"""What the pages of the repository point at is there: files, headings, and the commands that they show."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from maskray.platform.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *```.*?^ *```[^\n]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
COMMAND = re.compile(r"^(?:\$ )?(?:\S*/)?maskray (.*)$")
ELSEWHERE = re.compile(r"^[a-z][a-z+.-]*:")  # http:, mailto:


def pages() -> list[Path]:
    """Every page that git has; of a tree without git, every one that is not of a folder that begins with a dot."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if listed.returncode == 0:
        found = [Path(name) for name in listed.stdout.split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*.md")]
        found = [path for path in found if not path.parts[0].startswith(".")]
    return sorted(path for path in set(found) if (ROOT / path).is_file())


PAGES = pages()
WITH_COMMANDS = [path for path in PAGES if path.parts[0] in ("README.md", "docs")]


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchor_of(heading: str) -> str:
    """What a heading is called in an address, as pages on the web show Markdown."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors_of(text: str) -> set[str]:
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?)#* *$", FENCE.sub("", text), re.MULTILINE):
        name = anchor_of(heading)
        number = found.get(name, 0)
        found[name] = number + 1
        names.add(f"{name}-{number}" if number else name)
    return names | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def links_of(text: str) -> list[str]:
    """Addresses of links and images; what stands in blocks and between backticks is an example of something else."""
    prose = re.sub(r"^ {4}(?![-*] ).*$", "", FENCE.sub("", text), flags=re.MULTILINE)
    return LINK.findall(re.sub(r"`[^`\n]*`", "`", prose))


def broken_links(path: Path) -> list[str]:
    broken = []
    for link in links_of(text_of(path)):
        if ELSEWHERE.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / path).parent / name if name else ROOT / path
        found = target.resolve().is_relative_to(ROOT) and target.exists()
        if found and anchor:
            found = target.suffix == ".md" and anchor in anchors_of(target.read_text(encoding="utf-8"))
        if not found:
            broken.append(link)
    return broken


def commands_of(text: str) -> list[list[str]]:
    """The words of every maskray command in an indented or fenced block, without comments; lines go on after \\."""
    fenced = (line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").split("\n")[1:-1])
    indented = re.findall(r"^ {4}(.*)$", FENCE.sub("", text).replace("\\\n", " "), re.MULTILINE)
    matches = (COMMAND.match(line.strip()) for line in (*indented, *fenced))
    return [shlex.split(match[1].strip(), comments=True) for match in matches if match]


def complaint(words: list[str]) -> str | None:
    """What is wrong with a command: a command or option that is not there; nothing is run and no value is looked at."""
    command = typer.main.get_command(app)
    words = [word.strip("[]") if word.startswith("[--") else word for word in words]  # [--job JOB.yaml] may be left out
    options = {name for parameter in command.params for name in parameter.opts}
    while (commands := getattr(command, "commands", None)) is not None:
        while words and words[0] in options:
            words = words[1:]
        if not words:
            return None  # the command alone, which tells its help
        if words[0] not in commands:
            return f"no command {words[0]!r}"
        command, words = commands[words[0]], words[1:]
        options |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    unknown = [name for name in named if name not in options | {"--help", "-h"}]
    return f"no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_links_lead_somewhere(path):
    assert broken_links(path) == []


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=str)
def test_commands_exist(path):
    wrong = {shlex.join(words): said for words in commands_of(text_of(path)) if (said := complaint(words))}
    assert wrong == {}


def test_pages_and_commands_are_found():
    assert {Path("README.md"), Path("docs/serving.md"), Path("cluster/README.md")} <= set(PAGES)
    assert len(links_of(text_of(Path("README.md")))) > 20
    assert sum(len(commands_of(text_of(path))) for path in WITH_COMMANDS) > 50
    several = "    maskray run JOB.yaml \\\n        --set a=1  # why\n\n```\n$ .venv/bin/maskray check --json\n```\n"
    assert commands_of(several) == [["run", "JOB.yaml", "--set", "a=1"], ["check", "--json"]]


def test_what_is_not_there_is_found():
    assert complaint(["runn", "JOB.yaml"]) == "no command 'runn'"
    assert complaint(["models", "publish", "NAME"]) == "no command 'publish'"
    assert complaint(["run", "JOB.yaml", "--resum"]) == "no option --resum"
    assert complaint(["data", "show", "SOURCE", "[--job", "JOB.yaml]"]) is None
    assert anchors_of("# A `b`, (c)\n## The paper's\n## The paper's\n```\n# not this\n```\n") == {
        "a-b-c", "the-papers", "the-papers-1"
    }  # fmt: skip


def test_examples_of_links_are_no_links():
    assert links_of("see [a](b.md#c) and ![d](e.png), not `[f](g)`\n\n    x = [h](i)\n") == ["b.md#c", "e.png"]

"""The pages of the documentation, held against the code: every block of Python runs, every command exists."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import json
import re
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import fusedcell as fc
from fusedcell.__main__ import _parser
from fusedcell.bench.machine import own_cpus
from fusedcell.bench.options import complete

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("[A-Z]*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in FILES if path.name != "CHANGELOG.md")
NEEDED = {
    "README.md": ["torch"],
    "docs/keras.md": ["torch", "keras"],
    "docs/onnx.md": ["onnx"],
    "docs/pytorch.md": ["torch"],
    "docs/sparse.md": ["torch"],
    "docs/training.md": ["torch"],
}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)


def names_that_nothing_shown_makes(page: str) -> set[str]:
    shown = re.sub(r"<!---.*?-->", "", text(page), flags=re.DOTALL)
    tree = ast.parse("\n".join(re.findall(r"^```python\n(.*?)^```$", shown, re.DOTALL | re.MULTILINE)))
    used: set[str] = set()
    made = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            made.add(node.name or "")
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    return used - made


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_every_block_of_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and in one namespace; what a page leaves to its reader is in a comment of it."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for module in NEEDED.get(page, []):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    for example in Document.parse(str(ROOT / page), PythonCodeBlockParser()).examples():
        example.evaluate()


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_a_reader_sees_where_every_name_comes_from(page: str) -> None:
    """What is not shown, in comments, makes the files that stand for the reader's, and checks what is shown."""
    assert names_that_nothing_shown_makes(page) == set()


def test_no_page_names_a_version_of_ours_that_has_passed() -> None:
    for page in PAGES:
        assert set(re.findall(r"fusedcell (\d+\.\d+\.\d+)", text(page))) <= {fc.runtime_info()["fusedcell"]}, page


SOURCES = {
    ".".join(path.relative_to(ROOT / "python").with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "python").rglob("*.py")
}


@pytest.mark.parametrize("name", sorted(name for name, path in SOURCES.items() if ">>> " in path.read_text("utf-8")))
def test_every_example_in_a_docstring_gives_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in {"torch", "onnx"} & set(name.split(".")):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried
    assert not failed


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "cpp")])
def test_every_block_of_cpp_compiles(page: str, tmp_path: Path) -> None:
    """Against the public header; what is no whole program in a function that has what it leaves to its reader."""
    compiler = shutil.which("c++") or pytest.skip("needs a C++ compiler")
    given = "void page(const float* x, float* y, int steps, const char* data, std::size_t size) {"
    for number, block in enumerate(blocks(page, "cpp")):
        includes = "".join(re.findall(r"^#include .*\n", block, re.MULTILINE))
        in_function = f"#include <cstddef>\n{includes}{given}\n{block.replace(includes, '')}}}\n"
        source = tmp_path / f"block{number}.cc"
        source.write_text(block if "int main(" in block else in_function, encoding="utf-8")
        command = [compiler, "-std=c++17", "-fsyntax-only", "-I", str(ROOT / "include"), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def shell_lines(page: str) -> Iterator[str]:
    """Of shell blocks, and what stands in backticks, without comments."""
    for block in blocks(page, "sh"):
        yield from (re.sub(r"(^|\s)#.*", "", line).strip() for line in block.replace("\\\n", " ").splitlines())
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


def commands(program: str) -> list[tuple[str, str]]:
    """What follows the program's name wherever a page has it as a command, and the page."""
    pattern = re.compile(rf"(?:^|&& )(?:\S*/)?{program} ([^&>]*)")
    return [(page, found) for page in PAGES for line in shell_lines(page) for found in pattern.findall(line)]


def parse_command(arguments: list[str]) -> None:
    """As the program does before it runs anything; this machine's CPUs and tiers stand for the page's."""
    replaced = {"--cpu": str(min(own_cpus() or [0])), "--isa": "scalar"}
    for option, value in replaced.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "bench":
        complete(parser, options)


@pytest.mark.parametrize(("page", "command"), commands("fusedcell"))
def test_every_command_of_fusedcell_is_one(
    page: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()  # where the README has its picture
    for name in ("old.json", "new.json"):
        (tmp_path / name).touch()
    if "--cpu" in command and not own_cpus():
        pytest.skip("this system does not let a process choose its CPUs")
    arguments = shlex.split(command)
    if all(re.fullmatch("[a-z]+", word) for word in arguments):  # its name alone
        arguments.append("--help")
    if "--help" in arguments:
        with pytest.raises(SystemExit, match=r"^0$"):
            parse_command(arguments)
    else:
        parse_command(arguments)


def targets_of_make() -> list[str]:
    return re.findall(r"^([a-z][a-z0-9-]*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_make_alone_prints_a_line_for_every_target() -> None:
    """Those of a visitor first."""
    make = shutil.which("make") or pytest.skip("needs make")
    done = subprocess.run([make, "-C", str(ROOT)], capture_output=True, text=True, timeout=60, check=True)
    printed = re.findall(r"^  make ([a-z0-9-]+) +[A-Za-z]\S* \S.*\.$", done.stdout, re.MULTILINE)
    phony = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert printed == targets_of_make()
    assert sorted(printed) == sorted(" ".join(phony).replace("\\\n", " ").split())
    assert printed[:4] == ["install", "test", "bench", "docs"]


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_is_one(page: str) -> None:
    targets = set(targets_of_make())
    for of_page, command in commands("make"):
        words = shlex.split(command)
        asked = [word for word in words if "=" not in word]
        assert of_page != page or set(asked) <= targets, f"make {command}"


@pytest.mark.parametrize("page", PAGES)
def test_every_preset_extra_and_file_that_is_named_exists(page: str) -> None:
    presets = json.loads((ROOT / "CMakePresets.json").read_text(encoding="utf-8"))["configurePresets"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0] or pytest.fail("no extras")
    assert set(re.findall(r"--preset (\w+)", text(page))) <= {preset["name"] for preset in presets}
    assert set(re.findall(r"fusedcell\[(\w+)\]", text(page))) <= set(re.findall(r"^(\w+) =", extras, re.MULTILINE))
    for name in re.findall(r"\btest_\w+\.(?:py|cc)\b", text(page)):
        assert list((ROOT / "tests").rglob(name)) or (ROOT / "bench" / name).exists(), name
    file = r"(?:^|[\s`])((?:bench|csrc|docs|examples|python|tests|tools)/[a-z0-9_./-]*\.(?:cc|h|inc|json|py|sh))\b"
    for name in re.findall(file, text(page), re.MULTILINE):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/add_a_")])
def test_every_file_that_a_page_sends_one_to_has_what_it_says_is_there(page: str) -> None:
    """`file (name, name)`; NAME stands for what is new, and * for several."""
    for code in re.findall(r"`([^`]+)`", text(page)):
        path, _, names = " ".join(code.split()).partition(" (")
        if "NAME" in path or not re.fullmatch(r"[\w*./-]+/[\w*.-]*(?:\.\w+)?", path):
            continue
        assert list(ROOT.glob(path)), f"{path} is not there"
        for name in filter(None, names.rstrip(")").split(", ")):
            assert re.search(rf"\b{re.escape(name)}\b", text(path)), f"{path} has no {name}"


def rooms() -> Iterator[tuple[str, str]]:
    """The lines of docs/layout.md, each with the folder that it is about; those of its folders are indented by four."""
    room = folder = ""
    for line in blocks("docs/layout.md", "")[0].splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split(maxsplit=1)[0]
        if indent == 0:
            room = folder = name
        elif indent == 4:
            folder = room + name if name.endswith("/") else room
        yield folder, line


def test_every_file_that_the_layout_names_is_in_its_room() -> None:
    for folder, line in rooms():
        assert (ROOT / folder).is_dir(), folder
        for name in re.findall(r"[\w/-]+\.(?:cc|cmake|h|inc|json|py|sh)\b", line):
            assert (ROOT / name).exists() or list((ROOT / folder).rglob(name)), f"{folder}: {name}"


GUIDE = [page for page in PAGES if re.fullmatch(r"docs/\w+\.md", page)]


@pytest.mark.parametrize("page", GUIDE)
def test_every_page_begins_with_whom_it_is_for_and_no_table_follows_a_heading(page: str) -> None:
    """What a table shows is said in a sentence before it; the tables of compliance are all alike."""
    assert re.match(r"# .+\n\nThis page is (for|a tutorial for) ", text(page))
    if page != "docs/compliance.md":
        assert not re.findall(r"^#.*\n+\|", text(page), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page: str) -> None:
    """The site's build checks those between its pages, and headings; this is for who reads the files as they are."""
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#:\s]+)(?:#[^)]*)?\)", text(page)):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_number_below_the_picture_is_the_median_of_the_rows_that_it_shows() -> None:
    rows = re.findall(r"^\| (?:LSTM|GRU), float32 \| (.+) \|$", text("README.md"), re.MULTILINE)
    values = [float(value) for row in rows for value in row.split(" | ")]
    assert len(values) == 12
    said = f"In the median of these 12 cases, a step is **{statistics.median(values):.1f} times faster**"
    assert said in " ".join(text("README.md").split())
    assert said in " ".join(text("docs/index.md").split())


def test_the_reference_has_every_public_name() -> None:
    written = text("docs/reference/index.md")
    documented = re.findall(r"^\.\. (?:auto|py:)\w+:: fusedcell\.(\w+)", written, re.MULTILINE)
    assert {*documented, "nodes", "quantization", "reference"} >= set(fc.__all__)


@pytest.mark.parametrize(
    ("page", "module"),
    [("float64", "reference"), ("keras", "keras"), ("quantization", "quantization"), ("torch", "torch")],
)
def test_the_reference_has_every_public_name_of_a_module(page: str, module: str) -> None:
    """Sphinx takes them from __all__."""
    assert f".. automodule:: fusedcell.{module}\n   :members:\n" in text(f"docs/reference/{page}.md")

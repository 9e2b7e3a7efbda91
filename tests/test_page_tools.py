"""What lint and releases make of pages: tools/readability.py and tools/wheels/index_page.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


readability = load("readability")
index_page = load("wheels/index_page")

PAGE = """# A heading is no sentence at all

A step [reads each weight](docs/performance.md) once. `stream.step(x)` takes one x, and 3.5 is a number:

```python
no sentence = either, this one
```

| nor is | a table, however long |
|--|--|

- The first item has five words
- The second item
  has six words.
"""


def test_sentences_are_of_prose_alone() -> None:
    assert [" ".join(words) for words in readability.sentences(PAGE)] == [
        "A step reads each weight once.",
        "Code takes one x, and 3.5 is a number",
        "The first item has five words",
        "The second item has six words.",
    ]


@pytest.mark.parametrize(
    ("word", "count"),
    [("step", 1), ("weight", 1), ("takes", 2), ("state,", 1), ("table", 2), ("arithmetic", 4), ("3.5", 1)],
)
def test_syllables_are_groups_of_vowels(word: str, count: int) -> None:
    assert readability.syllables(word) == count


def test_a_long_sentence_is_named_by_its_beginning() -> None:
    faults = readability.faults(f"Short ones come first. {'Word ' * 45}ends. One is short. One is short. One is short.")
    assert faults == ["46 words, expected 40 at most: Word Word Word Word Word Word Word Word ..."]


def test_dense_prose_is_refused_by_its_ease() -> None:
    (fault,) = readability.faults("Multiplicative regularisation necessitates considerable computational expenditure.")
    assert fault.startswith("reading ease -")


TEXT = """[guide](docs/index.md#start), [two
lines](docs/arm.md), [out](https://example.org), [here](#limits), `x[0](y)`
![picture](docs/faster.svg)
"""
PROJECT = {"name": "fusedcell", "version": "1.2.3"}


def test_the_index_has_absolute_links_to_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(index_page, "ROOT", tmp_path)
    monkeypatch.setenv("REPOSITORY_URL", "https://example.com/a/b/")
    fields = index_page.dynamic_metadata({}, PROJECT)
    assert fields["readme"] == {
        "content-type": "text/markdown",
        "text": """[guide](https://example.com/a/b/blob/v1.2.3/docs/index.md#start), [two
lines](https://example.com/a/b/blob/v1.2.3/docs/arm.md), [out](https://example.org), [here](#limits), `x[0](y)`
![picture](https://example.com/a/b/raw/v1.2.3/docs/faster.svg)
""",
    }
    assert fields["urls"]["Repository"] == "https://example.com/a/b"
    assert fields["urls"]["Changes"] == "https://example.com/a/b/blob/v1.2.3/CHANGELOG.md"


def test_a_build_without_an_address_leaves_the_page_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(index_page, "ROOT", tmp_path)
    monkeypatch.delenv("REPOSITORY_URL", raising=False)
    fields = index_page.dynamic_metadata({}, PROJECT)
    assert fields == {"readme": {"content-type": "text/markdown", "text": TEXT}, "urls": {}}

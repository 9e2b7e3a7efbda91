from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

import fusedcell as fc

# The same examples on every run and every machine, and no time limit: emulated CPUs run these tests too.
settings.register_profile("fusedcell", derandomize=True, deadline=None, database=None)
settings.load_profile("fusedcell")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--objects", type=Path, metavar="DIR", help="build folder whose per-tier object files are to be checked"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "exhaustive" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("exhaustive") is None]


def pytest_report_header() -> str:
    info = fc.runtime_info()
    return f"fusedcell {info['fusedcell']} on {info['cpu']}: tiers {', '.join(info['isas'])}"


@pytest.fixture(params=fc.isas())
def isa(request: pytest.FixtureRequest) -> str:
    """Each tier that this machine runs."""
    return request.param

"""The lock files hold what pyproject.toml asks for, each with its hashes."""

import re
import tomllib

import pytest
from housekeeping import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["build"]]
DEV = [*RUN, *PROJECT["project"]["optional-dependencies"]["dev"]]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)


def pins_in(file):
    return {canonicalize_name(name): version for name, version in PIN.findall((ROOT / file).read_text())}


@pytest.mark.parametrize(("file", "wanted"), [("requirements.lock", RUN), ("requirements-dev.lock", DEV)])
def test_every_dependency_is_pinned_as_asked(file, wanted):
    pins = pins_in(file)
    for requirement in map(Requirement, wanted):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {file}: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} is pinned at {version}"


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_has_a_hash(file):
    for block in re.split(r"\n(?=\S)", (ROOT / file).read_text().strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_development_runs_on_what_production_runs_on():
    run, dev = pins_in("requirements.lock"), pins_in("requirements-dev.lock")
    assert {name: dev.get(name) for name in run} == run

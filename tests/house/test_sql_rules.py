"""Rules about SQL: each domain in its own schema, every query named, described and used."""

import re
from pathlib import Path

import pytest
from housekeeping import DOMAINS, ROOT, SOURCE, python_files, shown

QUERY_FILES = sorted(SOURCE.rglob("*.sql"))
MIGRATIONS = sorted((ROOT / "migrations").glob("*.sql"))
NAME = re.compile(r"^-- name: ([a-z0-9_]+)([\^$!]|\*!|#)?\n(.*)\n", re.MULTILINE)
SCHEMA_PREFIX = re.compile(rf"(?<![\w.:'@])({'|'.join(DOMAINS)})\.[a-z_]+")


def without_comments(text: str) -> str:
    return re.sub(r"--.*", "", text)


def schemas_in(path: Path) -> set[str]:
    return set(SCHEMA_PREFIX.findall(without_comments(path.read_text())))


@pytest.mark.parametrize("path", QUERY_FILES, ids=shown)
def test_a_domain_reads_and_writes_its_own_schema_only(path):
    home = path.relative_to(SOURCE).parts[0]
    assert schemas_in(path) <= {home}


@pytest.mark.parametrize("path", MIGRATIONS, ids=shown)
def test_no_foreign_key_crosses_schemas(path):
    schema = None
    for line in without_comments(path.read_text()).splitlines():
        if created := re.search(r"CREATE TABLE(?: IF NOT EXISTS)? (\w+)\.", line):
            schema = created[1]
        for target in re.findall(r"REFERENCES (\w+)\.", line):
            assert target in {schema, "base"}, line


@pytest.mark.parametrize("path", QUERY_FILES, ids=shown)
def test_every_query_is_described_in_a_sentence(path):
    queries = NAME.findall(path.read_text())
    assert queries
    for name, _, description in queries:
        assert description.startswith("-- "), f"{name} has no description"
        assert len(description) > 12, f"{name} says too little"


@pytest.mark.parametrize("path", QUERY_FILES, ids=shown)
def test_every_query_is_used(path):
    users = SOURCE if path.parent.name == "base" else path.parent
    code = "\n".join(file.read_text() for file in python_files(str(users.relative_to(ROOT))))
    unused = [name for name, _, _ in NAME.findall(path.read_text()) if not re.search(rf"\.{name}\b", code)]
    assert not unused


def test_migrations_are_numbered_without_a_gap():
    numbers = [int(path.name.split("_")[0]) for path in MIGRATIONS]
    assert numbers == list(range(1, len(numbers) + 1))

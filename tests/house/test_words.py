"""Rules about words: what people read is complete, true and free of anything that is only ours."""

import importlib
import pkgutil
import re

import pytest
from housekeeping import ROOT, SOURCE, shown, tracked_files

import quanhui
from quanhui.base.errors import Problem, all_problems
from quanhui.entry import docs

BINARY = {".png", ".jpg", ".ico", ".woff2", ".xlsx"}
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [path for path in tracked_files() if path.suffix == ".md"]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def import_everything() -> None:
    for module in pkgutil.walk_packages(quanhui.__path__, "quanhui."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_problem_says_what_happened_and_what_to_do_in_both_languages():
    import_everything()
    page = (ROOT / "docs" / "reference" / "problems.md").read_text()
    for problem in all_problems():
        words = [getattr(problem, name, "") for name in ("zh", "en", "remedy_zh", "remedy_en")]
        assert all(words), f"{problem.__name__} is incomplete"
        assert all(CHINESE.search(text) for text in (problem.zh, problem.remedy_zh)), problem.code
        assert not any(CHINESE.search(text) for text in (problem.en, problem.remedy_en)), problem.code
        assert 400 <= problem.status < 600, problem.code
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", problem.code), problem.code
        assert f"`{problem.code}`" in page, f"{problem.code} is not on the page: run `make docs`"


def test_problems_stand_where_the_reference_page_looks_for_them():
    import_everything()
    assert not [kind for kind in all_problems() if not kind.__module__.endswith(".errors")]


def test_only_a_malformed_request_is_422():
    import_everything()
    assert [problem.code for problem in all_problems() if problem.status == 422] == ["malformed-request"]


def test_a_problem_is_documented_for_those_who_read_the_code():
    import_everything()
    assert not [
        kind.__name__ for kind in all_problems() if not kind.__doc__ or kind.__doc__ == Problem.__doc__
    ]


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: page.file)
def test_generated_pages_are_up_to_date(page):
    assert (docs.FOLDER / page.file).read_text() == page.write(), "run `make docs`"


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_links_between_pages_resolve(path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("path", READMES, ids=shown)
def test_commands_in_the_readme_exist(path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentions = re.findall(r"^make ([a-z]+)|`make ([a-z]+)`", path.read_text(), re.MULTILINE)
    named = {start or inline for start, inline in mentions}
    assert {"run", "test"} <= named <= targets


def test_files_hold_no_registry_and_no_path_of_one_machine():
    # The words are put together here so that this file passes its own test.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "registry" + ".npmjs", "mirrors" + "."]
    folders = [
        "/ro" + "ot/",
        "/ho" + "me/",
        "/wo" + "rk/",
        "/Us" + "ers/",
        "--index" + "-url",
        "--find" + "-links",
    ]
    found = []
    for path in tracked_files():
        if path.suffix in BINARY or path.name == "Makefile":
            continue
        text = path.read_text(errors="replace")
        found += [f"{shown(path)}: {word}" for word in (*hosts, *folders) if word in text]
    assert not found


def test_the_source_holds_no_unfinished_work():
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XXX|NotImplemented" + r"Error)\b")
    assert not [shown(path) for path in sorted(SOURCE.rglob("*.py")) if marks.search(path.read_text())]

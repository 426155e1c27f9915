"""What the house rules look at: the tracked files, their syntax trees, the domains and their SQL."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "quanhui"
NOT_DOMAINS = {"base", "entry", "sandboxes", "sample", "simulation"}
DOMAINS = sorted(
    folder.name
    for folder in SOURCE.iterdir()
    if (folder / "__init__.py").exists() and folder.name not in NOT_DOMAINS
)


@cache
def tracked_files() -> list[Path]:
    """Every file that git tracks or would track; outside a git clone, every file that is not hidden."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listing.stdout.splitlines() or [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if not any(part.startswith(".") or part == "var" for part in path.relative_to(ROOT).parts)
    ]
    return [ROOT / name for name in sorted(names) if (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    """Python files under the given folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each import of a file: the module, and the names taken from it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [alias.name for alias in node.names]


def domain_of(path: Path) -> str | None:
    """The domain that a file of the source belongs to."""
    first = path.relative_to(SOURCE).parts[0]
    return first if first in DOMAINS else None


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))

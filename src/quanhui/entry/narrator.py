"""How the demo speaks: one language at a time, short lines, tables where figures stand in columns."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from quanhui.base.money import yuan


class Language(StrEnum):
    """The language of the terminal."""

    ZH = "zh"
    EN = "en"


def terminal_language(environ: Mapping[str, str]) -> Language:
    """Chinese where the terminal is set to Chinese, else English."""
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return Language.ZH if locale.lower().startswith("zh") else Language.EN


class Narrator:
    """Tells a story on a console. Every text comes as a pair, Chinese and English."""

    def __init__(self, console: Console, language: Language) -> None:
        self._console = console
        self._language = language
        self._chapter = 0

    def pick(self, view: Mapping[str, Any], name: str = "") -> str:
        """The text of a view that carries both languages, such as `zh`/`en` or `state_zh`/`state_en`."""
        key = f"{name}_{self._language}" if name else self._language.value
        return str(view[key])

    def word(self, zh: Mapping[str, str], name: str) -> str:
        """A technical name: in Chinese where there is a word for it, else as it is."""
        return zh.get(name, name) if self._language is Language.ZH else name

    def say(self, zh: str, en: str) -> None:
        """One line of the story."""
        self._console.print("   " + escape(zh if self._language is Language.ZH else en))

    def chapter(self, zh: str, en: str) -> None:
        """The next chapter begins."""
        self._chapter += 1
        text = zh if self._language is Language.ZH else en
        self._console.print(f"\n[bold]{self._chapter}. {escape(text)}[/]")

    def table(self, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> None:
        """Figures in columns; the last column is an amount and stands right."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
        for position, (zh, en) in enumerate(columns):
            right = position == len(columns) - 1
            title = zh if self._language is Language.ZH else en
            table.add_column(title, justify="right" if right else "left", no_wrap=right)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._console.print(Padding(table, (0, 0, 0, 3)))

    def money(self, fen: int) -> str:
        """An amount for people."""
        return f"{yuan(fen)} 元" if self._language is Language.ZH else f"¥{yuan(fen)}"

    def verdict(self, zh: str, en: str, *, well: bool) -> None:
        """A check that came out well or not."""
        mark = "[green]✓[/]" if well else "[red]✗[/]"
        self._console.print(f"   {mark} {escape(zh if self._language is Language.ZH else en)}")

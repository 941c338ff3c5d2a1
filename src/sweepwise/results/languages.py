"""A sentence in two languages."""

from __future__ import annotations

from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[str, ...] = get_args(Language)


class Both(str):
    """A sentence in English, which it is, with the same in Chinese beside it.

    So whatever prints English takes it as any other text, and a page that is read in Chinese finds that too.

    Args:
        en: in English.
        zh: in Chinese.

    Example:
        >>> one = Both("not yet", "尚未")
        >>> f"{one}!", one.zh, by_language(one), by_language("init")
        ('not yet!', '尚未', {'en': 'not yet', 'zh': '尚未'}, {'en': 'init', 'zh': 'init'})
    """

    zh: str

    def __new__(cls, en: str, zh: str) -> Both:
        """A text that knows its Chinese."""
        made = super().__new__(cls, en)
        made.zh = zh
        return made

    def __reduce__(self) -> tuple[type[Both], tuple[str, str]]:
        """What it is copied and pickled by."""
        return Both, (str(self), self.zh)


def chinese(text: str) -> str:
    """The Chinese of a text; the text itself where it is a name, a number or a command."""
    return text.zh if isinstance(text, Both) else text


def by_language(text: str) -> dict[str, str]:
    """A text as plain data, by language."""
    return {"en": str(text), "zh": chinese(text)}


def joined(parts: list[str], en: str = ", ", zh: str = "，") -> Both:
    """Parts of a sentence, one after the other.

    Args:
        parts: each in both languages, or a name.
        en: what stands between them in English.
        zh: in Chinese.
    """
    return Both(en.join(parts), zh.join(map(chinese, parts)))

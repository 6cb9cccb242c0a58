"""The package's docstrings as reStructuredText.

They are written to be read in an editor: code in single backticks, and sections whose entries are `name : what it is`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sphinx.application import Sphinx

HEADING = re.compile(r"^(Parameters|Attributes|Returns|Raises)\n-+\n", flags=re.M)
NARROWEST = 112  # columns of a full line, whatever its indentation: a line with room for another word was meant to end


def converted(lines: Sequence[str]) -> list[str]:
    """A docstring in reStructuredText: paragraphs, then a field for each section."""
    head, *rest = HEADING.split("\n".join(lines))
    found = paragraphs(head)
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        found += [f":{title}:", *(f"    {line}" for line in section(body)), ""]
    return found


def paragraphs(text: str) -> list[str]:
    """Paragraphs and items of lists; what is indented is shown as it stands."""
    found: list[str] = []
    for paragraph in re.split(r"\n{2,}", text.strip("\n")):
        if paragraph.startswith(" "):
            found += ["::", "", *(f"    {line}" for line in paragraph.splitlines()), ""]
        else:
            found += [marked(" ".join(item.split())) for item in re.split(r"\n(?=- )", paragraph)] + [""]
    return found


def section(body: str) -> list[str]:
    """Its entries as a list; words without entries as they are."""
    found = list(entries(body))
    if not any(words for _, words in found):
        return [marked(" ".join(body.split()))]
    return [f"- **{plain(names)}** \N{EN DASH} {marked(words)}" for names, words in found]


def entries(body: str) -> Iterator[tuple[str, str]]:
    """Names and words of `names : words`, with indented lines that belong to them; several may share a line."""
    for entry in re.split(r"\n(?=\S)", body.strip("\n")):
        line, *further = (part.strip() for part in entry.splitlines())
        for head in (heads := re.split(r"; (?=\w+ : )", line)):
            names, _, words = head.partition(" : ")
            if further and head is heads[-1]:
                meant_to_end = len(line) + 1 + len(further[0].split(" ")[0]) <= NARROWEST
                stop = ". " if words and meant_to_end and not words.endswith((".", ":", ";", ",")) else " "
                words = f"{words}{stop}{' '.join(further)}".strip()
            yield names, words


def marked(text: str) -> str:
    """Text whose backticks mark code and whose other characters mean themselves; names that end in `_` are code too."""
    text = re.sub(r"(?<![`\w.])([a-z]\w*_)(?![`\w])", r"`\1`", text)
    parts = enumerate(text.split("`"))
    return "".join(f"\\ ``{part}``\\ " if number % 2 else plain(part) for number, part in parts)


def plain(text: str) -> str:
    return re.sub(r"([\\*|_])", r"\\\1", text)


def convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = converted(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

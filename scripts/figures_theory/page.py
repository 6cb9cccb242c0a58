"""The page that shows the figures: their captions and tables come from the JSON files, and are never typed."""

import json
import re
from pathlib import Path

FIGURE = re.compile(r"<!-- figure (\w+): (.*?) -->\n.*?<!-- end -->", flags=re.S)


def filled(page: str, folder: Path) -> str:
    """A Markdown page, each `<!-- figure NAME: what is seen -->` ... `<!-- end -->` filled from the folder's files.

    Raises
    ------
    FileNotFoundError
        If the folder has no JSON file of a figure that the page shows.
    """

    def block(match: re.Match[str]) -> str:
        name, seen = match.groups()
        told = json.loads((folder / f"{name}.json").read_text())
        lines = [f"<!-- figure {name}: {seen} -->", f"![{seen}](figures/{name}.png)", "", f"*{told['caption']}*", ""]
        for table in told["tables"]:
            lines += [table, ""]
        return "\n".join([*lines, "<!-- end -->"])

    return FIGURE.sub(block, page)

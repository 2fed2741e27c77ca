"""Checks the documentation: links to files and headings lead somewhere, and the commands that it names exist.

Run by `make docs`: python tests/check_docs.py
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from simai_rules.cli import COMMANDS

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
# A command is the first word of a line or of a piece of code, or follows a shell's operator.
COMMAND = re.compile(r"(?:^|[`$;&|]|\bexec)[ \t]*(simai-rules|make)[ \t]+([a-z][\w-]*)", re.MULTILINE)


def documents(root: Path) -> list[Path]:
    """Return the pages that people read."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("Snakefiles/*/*.md")])


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems(page: Path, targets: set[str]) -> Iterator[str]:
    """Yield what is wrong with a page; `targets` are those of the Makefile."""
    text = page.read_text()
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists():
            yield f"link to {target}: there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield f"link to {target}: there is no such heading"
    known = {"simai-rules": set(COMMANDS), "make": targets}
    for code in CODE.findall(text):
        for program, word in COMMAND.findall(code):
            if word not in known[program]:
                yield f"`{program} {word}`: there is no such {'target' if program == 'make' else 'command'}"


def unsaid(root: Path, targets: set[str]) -> Iterator[str]:
    """Yield the targets that .ci/run calls and the README does not name."""
    words = set(re.findall(r"[\w-]+", re.sub(r"#.*", "", (root / ".ci/run").read_text())))
    said = set(re.findall(r"\bmake ([\w-]+)", (root / "README.md").read_text()))
    for target in sorted(words & targets - said):
        yield f".ci/run: it calls `make {target}`, which the README does not name"


def main() -> int:
    """Print the problems of all pages; return 1 if there is any."""
    root = Path(__file__).resolve().parent.parent
    targets = set(re.findall(r"^([a-z0-9-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    pages = documents(root)
    found = [f"{page.relative_to(root)}: {problem}" for page in pages for problem in problems(page, targets)]
    found += unsaid(root, targets)
    print("\n".join(found) if found else f"{len(pages)} pages: links, commands and targets exist")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

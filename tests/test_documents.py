# SPDX-License-Identifier: BSD-2-Clause
"""What README.md and docs/ tell people to type exists: commands, options, make targets, scenario names, links between pages.

The pages' longer examples are run elsewhere (docs/driver.md, docs/wdk.md, docs/linux.md, docs/bare-metal.md, docs/tutorial.md).
"""

import re
import shlex
from pathlib import Path

import pytest

from sim.cli import _parser
from sim.scenarios import select

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_PLACEHOLDER = re.compile(r"\b(NAME|DIR|FILE|SCENARIO|RNN)\b|\.\.\.")


def _lines(page):
    """Lines of code blocks, indented or fenced, without their comments."""
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ ").split("  #")[0].strip()


COMMANDS = sorted({(page.name, line) for page in PAGES for line in _lines(page) if line.startswith(("python -m sim ", "make "))})


def test_there_is_something_to_check():
    pages = {page for page, _ in COMMANDS}
    assert {"README.md", "bench.md", "cases.md", "tutorial.md", "waves.md"} <= pages
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("page", "line"), [(p, c) for p, c in COMMANDS if c.startswith("python")])
def test_command(page, line):
    words = shlex.split(line)[3:]
    options = _parser().parse_args(words)
    for name in [*getattr(options, "names", []), *filter(None, [getattr(options, "name", None)])]:
        if not _PLACEHOLDER.search(name):
            assert select([name])


@pytest.mark.parametrize(("page", "line"), [(p, c) for p, c in COMMANDS if c.startswith("make")])
def test_make_target(page, line):
    makefile = (ROOT / "Makefile").read_text()
    for word in shlex.split(line)[1:]:
        variable, equals, _ = word.partition("=")
        if equals:
            assert re.search(rf"\$\({variable}\)", makefile), f"the Makefile does not use {variable}"
        else:
            assert re.search(rf"^{re.escape(word)}:", makefile, re.M), f"the Makefile has no target {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"

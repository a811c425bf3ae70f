"""Laws of the documentation: what it names is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in ("architecture", "guide", "qgis", "security"))]


def named(tree):
    """Functions, classes and constants of a file."""
    found = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(
            node, ast.AnnAssign) else []
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_files_and_names_that_a_page_gives_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for path, name in re.findall(r"`([a-z0-9_/]+\.py)(?::(\w+))?`", text):
        assert (ROOT / path).is_file(), path
        assert not name or name in named(ast.parse((ROOT / path).read_text(encoding="utf-8"))), f"{path}:{name}"
    for path in re.findall(r"`((?:core|cli|training|plugin|resources|tests|docs)/[\w/]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_walk_of_a_run_names_its_functions():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(re.findall(r"`[\w/]+\.py:\w+`", text)) >= 15

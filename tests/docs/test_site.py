"""The site cannot drift: options come from the parsers, and every page is listed."""

import importlib.util
import re
import runpy
from pathlib import Path

import pytest
import setuptools
import yaml
from setuptools.command import build_py

from kdlight.cli import VERBS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pages(entry):
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        entry = list(entry.values())
    if isinstance(entry, list):
        for each in entry:
            yield from _pages(each)


def _navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["nav"]


def test_every_verb_has_an_entry_under_options(hooks):
    class Config:
        nav = _navigation()

    pages = list(_pages(hooks.on_config(Config()).nav))
    assert [f"reference/options/{verb}.md" for verb in VERBS] == [
        page for page in pages if page.startswith("reference/options/")
    ]


def test_a_page_of_options_is_what_help_prints(hooks):
    page = hooks.page("list")
    assert "usage: python -m kdlight list" in page
    assert "example:\n  python -m kdlight list" in page


def test_every_page_is_in_the_navigation(hooks):
    class Config:
        nav = _navigation()

    found = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    listed = set(_pages(hooks.on_config(Config()).nav))
    assert found == {page for page in listed if not page.startswith("reference/options/")}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert links
    assert missing == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_a_wheel_is_refused_in_one_sentence_and_an_editable_install_is_not(monkeypatch):
    found, built = {}, []
    monkeypatch.setattr(setuptools, "setup", lambda **settings: found.update(settings))
    monkeypatch.setattr(build_py.build_py, "run", lambda self: built.append(self))
    runpy.run_path(str(ROOT / "setup.py"))
    command = found["cmdclass"]["build_py"](setuptools.Distribution())
    with pytest.raises(SystemExit, match="expected an editable install"):
        command.run()
    command.editable_mode = True
    command.run()
    assert built == [command]

"""The README: its Python runs as it stands, its commands exist, and its links lead somewhere."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from cfxnb.cli import main
from cfxnb.explanation.config import Config

ROOT = Path(__file__).resolve().parents[2]


def blocks(language):
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_python_runs_and_does_what_its_comments_say():
    (code,) = blocks("python")
    names = {}
    exec(code, names)
    assert set(names["cf"].status) == {"flipped", "already_target"}
    table = names["cfx"].report(
        {"latent": names["cf"], "pixel": names["pixels"]}, judge=names["judge"]
    )
    assert table.loc["latent", "judge agrees"] > table.loc["pixel", "judge agrees"] + 0.3


def test_the_commands_have_the_options(capsys):
    used = [line for block in blocks("sh") for line in block.splitlines() if "-m cfxnb" in line]
    assert len(used) == 3
    for line in used:
        words = line.split("-m cfxnb ")[1].split()
        with pytest.raises(SystemExit) as end:
            main([words[0], "--help"])
        assert not end.value.code
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--"))


def test_the_settings_are_settings():
    (text,) = blocks("yaml")
    settings = yaml.safe_load(text)
    assert set(settings) <= {field.name for field in dataclasses.fields(Config)}
    assert settings["classifier"]["class_names"] == ["cat", "dog"]


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md"])
def test_the_links_lead_somewhere(page):
    place = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", place.read_text()):
        file, _, anchor = link.partition("#")
        if file.startswith("http"):
            continue
        target = place if not file else (place.parent / file).resolve()
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            text = target.read_text()
            titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in known | set(re.findall(r'(?:id|name)="([\w-]+)"', text)), link

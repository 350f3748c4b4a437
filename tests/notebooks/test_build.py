"""The generator, and that what is committed is what it generates."""

import re

import pytest
from books import SOURCES

from cfxnb.course import build


def test_a_region_becomes_a_stub_at_its_own_indentation():
    source = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n\nf(1)"
    stub = "def f(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()\n\nf(1)"
    assert build.cut_solutions(source) == stub


def test_text_around_and_between_regions_stays():
    source = "a = 1\n### BEGIN SOLUTION\nb = 2\n### END SOLUTION\nc = 3\n"
    source += "### BEGIN SOLUTION\nd = 4\n### END SOLUTION"
    cut = build.cut_solutions(source)
    assert "a = 1" in cut
    assert "c = 3" in cut
    assert "b = 2" not in cut
    assert "d = 4" not in cut


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\nx",
        "x\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
    ],
)
def test_marks_that_do_not_pair_are_refused(source):
    with pytest.raises(ValueError, match="SOLUTION"):
        build.cut_solutions(source)


def test_the_learner_notebook_is_current(book, learner):
    fresh = build.learner(book)
    assert [dict(c) for c in learner.cells] == [dict(c) for c in fresh.cells]


def test_the_solution_notebook_is_current(name, solution):
    fresh = build.solution(SOURCES[name])
    assert [c.source for c in solution.cells] == [c.source for c in fresh.cells]
    assert [c.id for c in solution.cells] == [c.id for c in fresh.cells]


def test_no_solution_line_leaks(book, learner):
    told = "\n".join(c.source for c in learner.cells)
    secret = []
    for cell in book.cells:
        if cell.cell_type == "code" and build.BEGIN in cell.source:
            for region in cell.source.split(build.BEGIN)[1:]:
                secret += region.split(build.END)[0].strip().split("\n")
    assert secret
    for line in (s.strip() for s in secret if any(c.isalnum() for c in s)):  # not a lone bracket
        # What is left in hints and in demonstrations elsewhere is meant to be read there.
        inside_functions = [
            c.source for c in learner.cells if "exercise" in c.metadata.get("tags", [])
        ]
        assert not any(line in source for source in inside_functions), line
    assert build.BEGIN not in told
    assert build.END not in told


@pytest.mark.parametrize("source", build.sources(), ids=lambda path: path.stem)
def test_links_lead_to_files_from_both_folders(source):
    root = source.parents[1]
    books = {root: build.read_source(source), root / "solutions": build.solution(source)}
    for folder, book in books.items():
        texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
        for link in re.findall(r"\]\((\.\./[^)#]+)", "\n".join(texts)):
            assert (folder / link).is_file(), link

"""What every notebook of the course has in common."""

import re

import pytest
from books import SOURCES

from cfxnb.course import build
from cfxnb.course.facts import HARD_MINUTES, MINUTES, facts
from cfxnb.course.solutions import solution_module

#: Notebooks that are not rewritten yet: the rules below "Build, then compare" wait for them.
#: Whoever rewrites a notebook deletes it here.
WAITING = {
    "00_welcome",
    "04_known_truth",
    "07_global_directions",
    "08_attribution_along_paths",
    "09_diffusion_counterfactuals",
    "10_model_errors",
}
#: Notebooks that introduce no method: they assemble nothing from the learner's pieces.
WITHOUT_METHOD = {"00_welcome"}
LEARNER_SHARE = 0.25
#: Words of a formula. A formula stands between dollar signs, and not in a code block.
FORMULA = re.compile(r"^ {4,}\S.*[=+−].*$", re.MULTILINE)
PAPER = re.compile(r"(?<![\[/\w])arXiv[ :]?(\d{4}\.\d{4,5})|(?<![\[/\w.])\d{4}\.\d{5}(?![\d\]])")


@pytest.fixture
def rewritten(name, book):
    """A notebook that follows the rules "Build, then compare"."""
    if name in WAITING:
        pytest.skip("waits to be rewritten")
    return book


def code(book):
    return [c for c in book.cells if c.cell_type == "code"]


def tagged(book, tag):
    return [c for c in book.cells if tag in c.metadata.get("tags", [])]


def test_it_begins_with_the_doctor_and_has_one_parameters_cell(book):
    assert "cfx.doctor()" in code(book)[0].source
    (parameters,) = tagged(book, "parameters")
    assert 'profile: str = "cpu"' in parameters.source
    assert code(book).index(parameters) == 1


def test_every_exercise_has_three_hints_and_a_check(book):
    exercises = [i for i, c in enumerate(book.cells) if "exercise" in c.metadata.get("tags", [])]
    assert len(exercises) >= 4
    for i in exercises:
        assert build.BEGIN in book.cells[i].source
        task = book.cells[i - 1].source
        assert [f"Hint {k}" in task for k in (1, 2, 3)] == [True] * 3, task
        check = book.cells[i + 1]
        assert "check" in check.metadata["tags"]
        assert check.source.startswith(f"cfx.checks.nb{book.cells[0].source[2:4]}.")


def test_hints_are_rendered_as_markdown(book):
    """Markdown inside HTML needs a blank line before and after."""
    text = "\n".join(c.source for c in book.cells if c.cell_type == "markdown")
    assert text.count("<details>") == text.count("</summary>\n\n") == text.count("\n\n</details>")


def test_an_exercise_says_how_long_it_takes(book):
    exercises = [i for i, c in enumerate(book.cells) if "exercise" in c.metadata.get("tags", [])]
    for i in exercises:
        task = book.cells[i - 1].source
        assert MINUTES.search(task) or MINUTES.search(book.cells[i - 2].source), task


# Build, then compare


def test_count_and_seed_are_parameters(rewritten):
    (parameters,) = tagged(rewritten, "parameters")
    assert re.search(r"^count: int = ", parameters.source, re.MULTILINE)
    assert re.search(r"^seed: int = ", parameters.source, re.MULTILINE)


def test_learners_write_a_quarter_of_the_lines(name, rewritten):
    found = facts(rewritten)
    print(name, found)
    assert found["share"] >= LEARNER_SHARE, found


def test_one_exercise_is_hard_and_one_task_is_open(rewritten):
    assert facts(rewritten)["hard"] >= 1, f"none of {HARD_MINUTES} minutes or more"
    opened = [i for i, c in enumerate(rewritten.cells) if "open-task" in c.metadata.get("tags", [])]
    assert opened
    for i in opened:
        task, text, code = rewritten.cells[i : i + 3]
        assert task.cell_type == "markdown"
        assert "**Rubric**" in task.source
        assert text.cell_type == "markdown"
        assert code.cell_type == "code"
        assert all("answer" in c.metadata.get("tags", []) for c in (text, code))


def test_exercises_are_used_later(name, rewritten):
    found = facts(rewritten)
    assert found["used later"] >= 0.8 * found["exercises"], found
    if name not in WITHOUT_METHOD:
        assert found["pieces"] >= 2, found


def test_the_solutions_of_pieces_are_current(name, rewritten):
    stored = SOURCES[name].parents[2] / "cfxnb" / "solutions" / f"nb{name[:2]}.py"
    if facts(rewritten)["pieces"]:
        assert stored.read_text() == solution_module(rewritten, name)


def test_a_prediction_is_followed_by_its_reason(rewritten):
    text = "\n".join(c.source for c in code(rewritten))
    assert text.count("predict_then_run(") == text.count("why=")


def test_formulas_are_typeset_and_papers_are_links(rewritten):
    text = "\n".join(c.source for c in rewritten.cells if c.cell_type == "markdown")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert re.search(r"\$[^$\n]+\$", prose)
    assert not FORMULA.findall(prose)
    assert not [m[0] for m in PAPER.finditer(re.sub(r"\[[^\]]*\]\([^)]*\)", "", prose))]
    assert "../docs/glossary.md" in prose


def test_plots_describe_themselves(rewritten):
    """An alternative text of one's own stands in a cell whose source is hidden."""
    for cell in code(rewritten):
        if "alt=" in cell.source:
            assert cell.metadata.get("jupyter", {}).get("source_hidden"), cell.source


def test_it_says_its_limits_its_sources_and_asks_for_a_guess(book):
    text = "\n".join(c.source for c in book.cells)
    for part in ("What you will be able to do", "Summary", "References", "predict_then_run"):
        assert part in text, part
    assert re.search(r"## (Limits|What a counterfactual explanation is, and is not)", text)
    assert "cfx.explore(" in text
    assert "pip install" not in text


def test_every_picture_of_the_solution_has_a_text(solution):
    pictures = [o for c in code(solution) for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 5
    for output in pictures:
        assert len(output.metadata["image/png"]["alt"]) > 20
        assert output.data["text/plain"] == output.metadata["image/png"]["alt"]


def test_no_figure_bypasses_the_text(book):
    text = "\n".join(c.source for c in code(book))
    assert "pyplot" not in text
    assert "plt." not in text


def test_the_solution_was_executed_and_every_check_passed(solution):
    assert all(c.execution_count is not None for c in code(solution))
    assert not [o for c in code(solution) for o in c.outputs if o.output_type == "error"]
    for cell in tagged(solution, "check"):
        (result,) = cell.outputs
        assert result.data["text/plain"].startswith("✔"), result.data["text/plain"]


def test_compared_cells_have_something_to_compare(solution):
    compared = [c for c in code(solution) if "NBVAL_CHECK_OUTPUT" in c.source]
    assert compared
    for cell in compared:
        assert "".join(o.get("text", "") for o in cell.outputs).strip()


def test_no_state_of_widgets_is_stored(solution):
    assert "widgets" not in solution.metadata
    for cell in code(solution):
        assert all(build.WIDGET not in o.get("data", {}) for o in cell.outputs)

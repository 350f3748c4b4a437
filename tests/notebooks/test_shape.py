"""What every notebook of the course has in common."""

import re

from cfxnb.course import build


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

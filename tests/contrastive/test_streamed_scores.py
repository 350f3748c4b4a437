"""Scores of a data set are those of one call with all images."""

import numpy as np
import pandas as pd
import pytest
import torch
from good import classifier, edits, factors, images, reader, space
from torch.utils.data import Dataset

import cfxnb as cfx

COLUMNS = ["necessity", "sufficiency", "pns", "monotonicity_violation", "clean"]


class Images(Dataset):
    def __len__(self):
        return len(images())

    def __getitem__(self, row):
        return images()[row]


def scored(data, table=None, **more):
    options = {"edits": edits(), "judge": reader()} | more
    table = factors() if table is None else table
    return cfx.contrastive_scores(space(), classifier(), data, table, **options)


def same(found, whole):
    pd.testing.assert_frame_equal(found.table, whole.table)
    pd.testing.assert_frame_equal(found.units, whole.units)
    pd.testing.assert_frame_equal(found.leakage, whole.leakage)
    assert found.reconstruction_agreement == whole.reconstruction_agreement
    records = [{k: v for k, v in s.made_by.items() if k != "seconds"} for s in (found, whole)]
    assert records[0] == records[1]


@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize("judged", [True, False])
def test_the_scores_are_those_of_one_call(size, judged):
    more = {} if judged else {"judge": None}
    found = scored(Images(), batch_size=size, **more)
    same(found, scored(images(), **more))
    assert found.units["row"].nunique() == len(images())


def test_iterators_rows_and_saved_results(tmp_path):
    whole = scored(images(), first_row=7)
    found = scored(iter(images()), batch_size=5, first_row=7)
    same(found, whole)
    found.save(tmp_path / "scores")
    again = cfx.ContrastiveScores.load(tmp_path / "scores")
    pd.testing.assert_frame_equal(again.table, whole.table)


def test_parts_without_any_image_to_score_count_nothing():
    """The context has the last images alone, and the first batches none."""
    context = np.arange(len(images())) >= 8
    same(scored(Images(), batch_size=3, context=context), scored(images(), context=context))
    other = factors().assign(up=np.where(context, factors()["up"], "maybe"))
    other["side"] = np.where(context, other["side"], "maybe")
    same(scored(Images(), other, batch_size=3), scored(images(), other))
    nothing = factors().assign(up="maybe", side="maybe")
    for data in (images(), Images()):
        with pytest.raises(ValueError, match="factors: expected some with the values of"):
            scored(data, nothing, batch_size=3)


def test_edits_must_be_fitted_before():
    with pytest.raises(
        ValueError, match=r"edits: expected edits from cfx\.fit_attribute_edits, be"
    ):
        cfx.contrastive_scores(space(), classifier(), Images(), factors())


def test_factors_belong_to_the_images():
    with pytest.raises(ValueError, match="factors: expected one for all images or one for each of"):
        scored(Images(), factors()[:-1])


def test_several_processes_are_warned(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="each of the 2 processes works on the whole data set$"):
        scored(Images(), batch_size=5)


def test_ctrl_c_keeps_what_is_finished():
    class Pressed(Images):
        def __getitem__(self, row):
            if row == 9:
                raise KeyboardInterrupt
            return super().__getitem__(row)

    with pytest.warns(UserWarning, match="interrupted: 8 of 12 images are finished"):
        found = scored(Pressed(), batch_size=4)
    same(found, scored(images()[:8], factors()[:8]))


def test_scores_of_another_question_are_not_joined():
    a, b = scored(images()), scored(images(), judge=None)
    with pytest.raises(ValueError, match=r"parts\[1\]: expected scores of the same question"):
        cfx.ContrastiveScores.concatenate([a, b])
    both = cfx.ContrastiveScores.concatenate([a, a])
    assert (both.table["pns n"] == 2 * a.table["pns n"]).all()
    torch.testing.assert_close(
        torch.tensor(both.table["pns"].to_numpy()), torch.tensor(a.table["pns"].to_numpy())
    )

"""Contrastive counterfactuals (Alipour et al., arXiv 2206.05257): necessity and sufficiency.

Read ``contrastive_scores`` first. ``contrastive_scores`` edits one attribute of each image,
classifies the result, and counts the outcomes. ``tally`` computes the scores from the counts.
``scores`` defines the result of ``contrastive_scores`` with its tables. ``attribute_edits`` fits
the edits. ``linear_steps`` and ``edit_network`` implement the two kinds of edits, linear and
learned. ``contrasts`` checks the two values between which each attribute is edited.
``factor_reader`` predicts named factors of images. ``observed_scores`` estimates necessity and
sufficiency from a table of observations, with bounds. ``contingency`` counts the units (rows) of a
table of observations.
"""

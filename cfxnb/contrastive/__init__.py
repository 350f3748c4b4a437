"""Contrastive counterfactuals (Alipour et al., arXiv 2206.05257): necessity and sufficiency.

Read ``contrastive_scores`` first: edit one attribute of each image, classify the result, and count.
``scores`` is the result with its tables. ``attribute_edits`` fits the edits, ``linear_steps`` and
``edit_network`` are the two kinds. ``contrasts`` are the two values of each attribute, and
``factor_reader`` predicts named factors of images. ``observed_scores`` estimates the same scores
from a table of observations, with bounds; ``contingency`` counts the table.
"""

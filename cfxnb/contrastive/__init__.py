"""Contrastive counterfactuals (Alipour et al., arXiv 2206.05257): necessity and sufficiency.

Read first ``contrastive_scores``: edit one attribute of each image, classify the result, and
count. ``scores`` is the result with its tables. ``attribute_edits`` fits the edits; ``edits`` has
the linear ones and ``edit_network`` those of a network. ``factor_reader`` reads named factors from
images. ``observed_scores`` estimates the same scores from a table of observations, with bounds;
``contingency`` counts the table.
"""

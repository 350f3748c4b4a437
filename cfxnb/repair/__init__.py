"""Explain the errors of a classifier, and repair it (Farid et al., arXiv 2310.06668).

Read ``explain_errors`` first: the function finds what would have to change in each misclassified
image for the classifier to be right. ``fine_tune`` trains a copy of the classifier further, for
example on counterfactuals. The paper's code has no script for explaining or repairing errors, so
``explain_errors`` and ``fine_tune`` are our reading of the paper's idea.
"""

"""What a classifier gets wrong, and training it further.

Read first ``explain_errors``: what would have to change in each misclassified image for the answer
to be right. ``fine_tune`` trains a copy of the classifier on counterfactuals or other images.
"""

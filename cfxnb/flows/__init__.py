"""Counterfactuals by flow matching: LeapFactual (arXiv 2510.14623), and a shorter walk.

Read ``flow_counterfactual`` first. This file holds the walk, the paper's leaps, and the derivation
that joins them. ``velocity`` has the conditional flows: a small network that is fitted to the
answers of a classifier (``fit_flow``), the denoiser of a diffusion space, and the difference of
class means as a baseline. Nothing here needs a gradient of the classifier.
"""

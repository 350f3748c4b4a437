"""The machinery of the course: building notebooks, running them, and what their cells use.

``build`` makes learner notebooks and solutions from ``notebooks/sources``, and ``run`` executes
the whole course. Notebook cells use ``doctor`` (is everything there?), ``profiles`` (how much to
compute) and ``widgets``.
"""

"""Tools of the course.

``build`` makes learner notebooks and solutions from ``notebooks/sources``. ``run`` executes all
notebooks of the course. Cells of the notebooks use ``doctor`` (checks the installation),
``profiles`` (how much to compute) and ``widgets`` (controls).
"""

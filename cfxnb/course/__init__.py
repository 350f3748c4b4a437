"""Tools of the course.

``build`` makes learner notebooks and solutions from ``notebooks/sources``. ``run`` executes all
notebooks of the course. ``facts`` counts exercises and lines. Cells of the notebooks use ``doctor``
(checks the installation), ``profiles`` (how much to compute), ``widgets`` (controls), and
``pieces`` (functions that learners have written).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"pieces": ["piece"]})

"""Solutions of the exercises on which later cells build, one module per notebook.

``python -m cfxnb.build learner`` writes the modules from ``notebooks/sources``. Do not edit them.
``cfx.course.piece`` uses a function of these modules if the learner's own is not finished.
"""

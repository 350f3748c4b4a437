"""Explain a classifier's decisions on a page, with data and a generator.

``explain`` runs the methods that apply, compares them, and writes a page. To read the code, start
with ``explain``. ``selection`` chooses images and targets, ``methods`` chooses the methods that
apply, and ``costs`` estimates their time. ``run_jobs`` runs the methods, and ``kept`` keeps what is
finished. ``result`` holds the Explanation, ``findings`` writes warnings and notes for the reader of
the page, and ``page`` writes the HTML. ``config`` and ``parts`` read a file of settings, which
names data, classifier and space.
"""

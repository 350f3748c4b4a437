"""Explain a classifier's decisions on a page, with data and a generator.

``explain`` runs the methods that apply, compares them, and writes a page. To read the code, start
with ``explain``. ``methods`` chooses the methods that apply. ``findings`` writes warnings and notes
for the reader of the page, and ``page`` writes the HTML. ``config`` and ``parts`` read a file of
settings, which names data, classifier and space.
"""

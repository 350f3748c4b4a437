"""From data, a classifier and a generator to a page that explains the classifier's decisions.

``explain`` runs the methods that apply, compares them, and writes a page. To read the code, start
with ``explain``. ``methods`` says which methods apply, ``findings`` writes what a reader should be
careful about, ``page`` writes the HTML, and ``config`` and ``parts`` read a file that names data,
classifier and space.
"""

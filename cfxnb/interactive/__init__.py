"""The workbench: a panel for trying methods on single images, in Jupyter or as a page.

Read ``panel`` first, which holds the widgets. ``methods`` lists the methods that can run on a space
and a classifier, with their options. ``runs`` keeps what was run, compares it, and writes it as
code.
"""

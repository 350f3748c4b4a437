"""What every method shares: the state of networks and of torch, and the border to foreign code.

Read first ``border``: whatever a caller hands over to be called, a classifier, a space, a distance,
is called through it.
"""

"""What every method shares: the state of networks and of torch, and the border to foreign code.

Read first ``border``: whatever a caller hands over to be called, a classifier, a space, a distance,
is called through it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"types"})

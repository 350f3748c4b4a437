"""What all methods share: checks of arguments, results, tensors, the driver, and DDIM.

Read ``driver`` first: it does what every method needs, so that a method only has to edit codes or
images. ``border`` wraps the classifiers, spaces and functions of a caller, so that each call is
checked. ``validate`` checks all other arguments.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"types"})

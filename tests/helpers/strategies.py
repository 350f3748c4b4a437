"""Random inputs that shrink to small ones."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

quick = settings(max_examples=25, deadline=None, derandomize=True)


def images(rows=2, channels=1, size=4):
    """(rows, channels, size, size) in [0, 1], often with equal and with extreme pixels."""
    values = st.floats(0, 1, width=16)
    return arrays(np.float32, (rows, channels, size, size), elements=values).map(torch.from_numpy)


def weights(classes=3, pixels=16):
    values = st.floats(-8, 8, width=16)
    return arrays(np.float32, (classes, pixels), elements=values).map(torch.from_numpy)

"""Now ``cfxnb.core.ddim``."""

from cfxnb.core.ddim import add_noise as noised
from cfxnb.core.ddim import ddim_invert as inverted
from cfxnb.core.ddim import denoise
from cfxnb.core.ddim import even_schedule as short
from cfxnb.core.ddim import paper_schedule as published
from cfxnb.core.ddim import predict_x0 as cleaned

__all__ = ["cleaned", "denoise", "inverted", "noised", "published", "short"]

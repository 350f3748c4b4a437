"""Now ``cfxnb.spaces.checkpoints.stylegan2_files``; kept for one version."""

from cfxnb.spaces.checkpoints.stylegan2_files import PARTS, _renamed

__all__ = ["PARTS", "_renamed"]

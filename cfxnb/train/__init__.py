"""Train generators and classifiers on your own images: from a folder to a space with a card.

- ``space``: train a space (VAE, latent diffusion, diffusion autoencoder, ...) on images.
- ``classifier``: train a classifier to explain, or a judge.

One file per kind of space says what is trained: ``vae``, ``autoencoder``, ``ldm``, ``diffae``,
``flow``. The loop is ``cfxnb.core.training.fit``. The files ``digits``, ``sprites``, ``faces``,
``chest``, ``..._recipes`` and ``flows`` hold the recipes of the shipped networks:
``python -m cfxnb.train`` runs them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"train_space": ["space"], "train_classifier": ["classifier"]}
)

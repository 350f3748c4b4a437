"""Old places of modules, kept for one version; they are now in ``core``, ``attacks`` and so on."""

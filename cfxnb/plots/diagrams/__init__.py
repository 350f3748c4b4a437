"""Diagrams that show the idea of a method: ``cfx.diagram("latent_attack")``.

- ``diagram``: the public function, the list of all diagrams, and the class Diagram.
- ``canvas``: boxes, arrows, curves and labels, written as SVG.
- ``codes``, ``diffusion``, ``causes``, ``paths``: the drawings, one function per diagram. To add a
  diagram, write such a function and add a line to ``DIAGRAMS`` in ``diagram``.
"""

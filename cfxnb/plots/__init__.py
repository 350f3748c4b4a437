"""Pictures of results: each function takes a result and returns or draws a figure.

- ``pictures``: galleries of images and counterfactuals, and the class Picture.
- ``charts``: bars, curves, and maps of codes.
- ``scores``: necessity, sufficiency, leakage and edits.
- ``attribution``: heat maps.
- ``diagrams``: drawings of the ideas behind the methods, as SVG.
- ``directions``: flip rates and images along a direction.
"""

"""Pictures of results: each function takes a result and returns or draws a figure.

``pictures`` has the gallery of counterfactuals and the base of all pictures, ``charts`` bars and
curves, ``scores`` necessity and leakage, ``attribution`` heat maps, ``directions`` images along a
direction.
"""

"""Score a counterfactual method where the truth is known, beside the methods of this package.

Read ``evaluate`` first: it is what ``cfx.evaluate`` does. ``tasks`` makes the questions: sprites,
whose planted causes are known, and digits, faces and X-rays with an independent judge. ``methods``
lists the methods and baselines of the bake-off. ``measure`` turns what a method found into numbers.
"""

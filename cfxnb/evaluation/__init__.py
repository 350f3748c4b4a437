"""Score a counterfactual method on fixed tasks, and compare it with the methods of this package.

Read ``evaluate`` first, which holds ``cfx.evaluate``. ``tasks`` makes the tasks. In the tasks with
sprites, we planted the causes of the decisions. The tasks with digits, faces and X-rays have an
independent judge. ``methods`` lists the methods and baselines of the bake-off. ``measure`` computes
the measures of a method from its results.
"""

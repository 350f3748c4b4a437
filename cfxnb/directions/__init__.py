"""Global Counterfactual Directions (GCD, arXiv 2404.12488): directions found without gradients.

Read ``search`` in ``find_directions`` first. ``search`` is the algorithm: query the black box at
random changes of one image's code, fit a proxy, take its gradient (g) and the eigenvectors of its
Hessian (h), and rank these directions.

- ``search_config``: checks the options of a search.
- ``probing``: renders changed codes and queries the classifier about them.
- ``query_log``: counts the queries, and stores the answers in a folder.
- ``recognition``: decides whether stored answers come from the present classifier.
- ``proxies``: the default proxy, ridge regression. ``mlp_proxy``: the network of the paper.
- ``direction_candidates``: the g- and h-directions of a proxy.
- ``direction_trial``: tests directions on images, and ranks them.
- ``gradient_correction``: corrects g with the answers of the trial.
- ``result``: ``Directions``, the result of a search.
- ``follow_direction``: finds the smallest step along one direction for each image of a data set.
"""

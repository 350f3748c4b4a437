"""Global Counterfactual Directions (GCD, arXiv 2404.12488): directions found without gradients.

The public functions are ``find_directions`` and ``follow_direction``. First read
``search_globally`` in ``global_search``, which is the default algorithm. ``search_one_image`` in
``one_image_search`` is the algorithm of the paper. The paper queries a black box about random
changes of one image's code, and fits a proxy to the answers. The directions are the gradient of the
proxy (g) and the eigenvectors of its Hessian (h).

- ``search_config``: checks the options of a search.
- ``probing``: renders changed codes and queries the classifier about them.
- ``query_log``: counts the queries, and stores the answers in a folder.
- ``recognition``: decides whether stored answers come from the present classifier.
- ``proxies``: ridge regression as a proxy. ``mlp_proxy``: the paper's proxy, a network.
- ``direction_candidates``: the gradient (g) and the Hessian's eigenvectors (h) of a proxy.
- ``direction_trial``: tests directions on images, and ranks them.
- ``gradient_correction``: corrects the gradient g with answers about other images.
- ``result``: ``Directions``, the result of a search.
- ``follow_direction``: finds the smallest step along one direction for each image of a data set.
"""

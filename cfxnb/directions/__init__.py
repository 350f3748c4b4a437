"""Global Counterfactual Directions (GCD, arXiv 2404.12488): directions found without gradients.

Read first ``find_directions``: probe the black box around one image, fit a proxy, take its
gradient (g) and the eigenvectors of its Hessian (h), and rank them. ``probing`` asks the
classifier about changed codes, and ``query_log`` counts and stores the answers. ``proxies`` fits
by least squares; ``mlp_proxy`` is the paper's network. ``candidates`` names the directions,
``trial`` tests them on other images, and ``gradient_correction`` corrects g by what they answer.
``recognition`` decides whether stored answers belong to the classifier at hand.
``follow_direction`` walks along one direction on a whole data set. ``result`` is what a search
returns.
"""

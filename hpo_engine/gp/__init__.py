"""Gaussian processes over (configuration, resource), and what to evaluate next.

The letters are those of Rasmussen & Williams 2006, chapter 2, in all modules of this package:

    n, m, p   rows of data, points asked about, pending evaluations; s: fantasies
    w         coordinates of a point: those of its configuration in the unit cube, and its resource, last
    g         groups of coordinates that share a lengthscale: one a hyper-parameter, and one for the resource
    theta     log lengthscale of each group, log amplitude and log noise (variances), mean: g + 3 numbers
    x, y      data (n, w), (n,)      z   points asked about (m, w)      d2   squared scaled distances
"""

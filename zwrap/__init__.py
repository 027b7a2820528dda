"""zwrap: a wrapper-centric Zocalo for batch clusters.

The way of the data, one module per station::

  request -> transport -> dispatcher -> recipe -> submitter -> template -> scheduler -> (batch)
                                                                                            |
  next step <- transport <- envelope <- program <- wrapper (heartbeat, limits) <------------'

Each module on this way names its station in the first line of its docstring.
"""

__version__ = "0.1.0"

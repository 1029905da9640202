"""Training of what the package ships: ``zoo`` classifiers, the ``generator`` of scenes, and ``style`` networks."""

"""What the layers of a model hold.

| module | what |
|---|---|
| ``filters`` | first-layer weights laid over the pixels, how Gabor-like they are, class templates |
| ``activations`` | a layer's maps, the strongest channels of an image, dead units |
| ``patches`` | what in a data set a channel answers to most, in one pass |
| ``fields`` | how receptive fields grow with depth: by arithmetic, by derivatives, effective |
| ``codes`` | the features behind the last layer as points: neighbours, maps, probes, similarity of two models |
| ``units`` | which part of a scene a channel stands for |
"""

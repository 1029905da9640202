"""What every method may assume.

- ``borrow``: a model in eval mode with frozen parameters, given back afterwards; counted passes
- ``layers``: layers by name, read as (N, C, h, w) grids; the default Grad-CAM layer
- ``targets``: one number per image, to explain or to climb
- ``draws``: one random stream per image
- ``tables``: names of methods, and methods written as text
- ``errors``: one clear line with the way out
"""

"""Search spaces that ship with the package; `sparsearch ls spaces` lists them."""

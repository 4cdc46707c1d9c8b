"""Objectives that ship with the package; `sparsearch ls objectives` lists them."""

"""From a Hugging Face model to blocks and sites, from text to panels.

Kept free of imports: `sparsearch.model.site` is read where torch must not be.
"""

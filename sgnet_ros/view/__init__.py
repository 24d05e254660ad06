"""Show live what camera and node see."""

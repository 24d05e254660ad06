"""Sphinx: `make docs` builds the pages and the API reference into out/docs/."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "sgnet_ros"
author = "the sgnet_ros authors"
copyright = "the sgnet_ros authors, Apache-2.0"
version = release = installed("sgnet_ros")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"sgnet_ros {release}"
exclude_patterns = ["_build"]

myst_heading_anchors = 3
highlight_language = "none"  # of blocks without one
autosummary_generate = True
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = ["triton"]  # which not every build of PyTorch brings

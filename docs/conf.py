"""Sphinx configuration of the documentation: ``sphinx-build -W docs build/docs``."""

from pairs_lit import __version__

project = "pairs_lit"
author = "the authors of pairs_lit"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = "pairs_lit"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # a test executes the notebook; the page shows the saved outputs
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"

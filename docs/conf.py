"""The site: Markdown of this folder, and the package's docstrings. `scripts/docs` builds it."""

import sys
from pathlib import Path

import gmmdask

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project, release, language = "gmmdask", gmmdask.__version__, "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "docstrings", "mathml"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
html_theme, html_title, html_show_sphinx, html_copy_source = "furo", "gmmdask", False, False
html_show_copyright, smartquotes = False, False  # values in docstrings are in straight quotes
html_static_path, html_css_files = ["static"], ["site.css"]
templates_path = ["templates"]

"""How Sphinx builds these pages: `nox -s docs`."""

project = "avtomatika-trio"
html_title = project
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
exclude_patterns = ["examples"]

"""The live data server: the newest plots, for pages and scripts. A Django project with a database of its own."""

"""Runs to one HTML file that needs no network.

Only this package and `site` import plotly and jinja2.
"""

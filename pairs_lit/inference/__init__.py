"""Finished runs in use: loading, predicting, inspecting, exporting, and the demo page."""

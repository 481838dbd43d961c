"""Using finished runs: loading, applying, inspecting, exporting and drawing."""

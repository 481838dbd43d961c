"""Inspection of a finished run: which pairs its rounds get wrong, as numbers, figures and a report page."""

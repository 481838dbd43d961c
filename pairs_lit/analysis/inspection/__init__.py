"""What finished rounds get wrong: numbers, figures and a page."""

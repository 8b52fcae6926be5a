"""A local page that shows what each step makes of an image."""

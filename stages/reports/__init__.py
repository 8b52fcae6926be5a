"""`report.html`: one file about everything in a folder of results."""

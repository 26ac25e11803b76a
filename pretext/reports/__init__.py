"""Any number of runs as one comparison: read, grouped, tested, and told as tables, figures and one HTML page."""

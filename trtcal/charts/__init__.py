"""Charts: plain data in, Vega-Lite out; on a page of the report, in a file of their own, or in a notebook."""

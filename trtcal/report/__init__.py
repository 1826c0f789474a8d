"""One page that shows what was measured, and why: HTML that opens offline."""

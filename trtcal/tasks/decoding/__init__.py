"""What adapters share: boxes, lists, maps and masks as outputs hold them, and boxes that overlap."""

"""Named places to run. A farm is a leaf: it imports neither launch nor config nor cli."""

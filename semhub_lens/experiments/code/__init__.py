"""Programs: list literals, roles of arguments, instructions and steering."""

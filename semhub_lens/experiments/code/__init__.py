"""Programs: list literals, roles of arguments, instructions, steering."""

"""One folder a command that looks at runs or makes data. Nothing below imports them."""

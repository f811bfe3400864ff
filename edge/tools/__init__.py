"""The commands that analyse runs or produce data, one folder each. No room below imports them."""

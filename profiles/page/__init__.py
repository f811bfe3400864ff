"""Pages and pictures of all commands: one style, and the charts that they are made of."""

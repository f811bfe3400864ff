"""Pages and images of all commands: one style and the charts."""

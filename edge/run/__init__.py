"""`sefa-edge run`: the plan, the process table, the supervisor, the safe stop, the shutdown and the summary."""

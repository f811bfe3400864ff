"""An arm that follows the targets of another program, inside its limits: no policy, no processes of its own."""

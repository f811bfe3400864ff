"""`sefa-edge run`: what it is going to be, who starts, watches and stops its processes, what a person sees."""

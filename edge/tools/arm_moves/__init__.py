"""`sefa-edge arm center|park`: planned moves of an arm outside a run, through the limiter."""

"""`sefa-edge replay`: a recorded run computed anew, bit for bit."""

"""Facts: arms, cameras, units, the policy card. The lowest folder: it imports no other."""

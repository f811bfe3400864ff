"""Pictures of a run: sampled while it goes on, drawn when the arm rests."""

"""`creditsd run`: what opens everything, and the loop that drains, recomputes, hands over and rests."""

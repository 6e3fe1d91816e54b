"""What a user has, and what can happen to it: the words everything else speaks. Knows nothing of the rest."""

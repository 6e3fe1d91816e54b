-- Have the recompute of this transaction try each user apart.
SET LOCAL creditsd.careful = on

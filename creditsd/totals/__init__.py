"""What the totals are now, where no change asked for it; and the partitions that keep each step of them."""

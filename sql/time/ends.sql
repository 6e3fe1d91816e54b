-- Where no row begins later: when the first counting row ends.
min(rated.expires_at) FILTER (WHERE rated.counts)

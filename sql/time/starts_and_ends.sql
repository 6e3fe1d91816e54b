-- When the next row ends, or begins. An empty row, too: once it has begun, it is to be expired. One that ends before it begins never counts.
min(
    CASE
        WHEN rated.counts THEN rated.expires_at
        WHEN rated.starts_at > instant AND rated.starts_at < 'infinity' AND rated.active
            AND (rated.expires_at IS NULL OR rated.expires_at > rated.starts_at) THEN rated.starts_at
    END
)

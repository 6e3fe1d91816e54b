-- What is visible now need not be read: everyone is recomputed, and later than this.
SELECT
    pg_current_snapshot()::text,
    creditsd.begin_resync('too many changes to list')

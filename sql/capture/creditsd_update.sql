CREATE TRIGGER creditsd_update
AFTER UPDATE ON {table}
FOR EACH ROW
WHEN (
    NEW.{user_id} IS NOT NULL
    AND ({old_columns}) IS DISTINCT FROM ({new_columns})
    AND NOT (
        OLD.{status}::text <> NEW.{status}::text
        AND NEW.{status}::text = {expired_status}
        AND coalesce(current_setting('creditsd.expiring', true), '') = 'on'
    )
)
EXECUTE FUNCTION creditsd.capture_new();

CREATE TRIGGER creditsd_delete
AFTER DELETE ON {table}
FOR EACH ROW
WHEN (OLD.{user_id} IS NOT NULL)
EXECUTE FUNCTION creditsd.capture_old();

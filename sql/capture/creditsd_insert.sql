CREATE TRIGGER creditsd_insert
AFTER INSERT ON {table}
FOR EACH ROW
WHEN (NEW.{user_id} IS NOT NULL)
EXECUTE FUNCTION creditsd.capture_new();

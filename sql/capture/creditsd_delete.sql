CREATE TRIGGER creditsd_delete
AFTER DELETE ON {table}
FOR EACH ROW
EXECUTE FUNCTION creditsd.capture_delete();

CREATE TRIGGER creditsd_update
AFTER UPDATE ON {table}
FOR EACH ROW
EXECUTE FUNCTION creditsd.capture_update();

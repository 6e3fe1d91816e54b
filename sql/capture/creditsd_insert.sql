CREATE TRIGGER creditsd_insert
AFTER INSERT ON {table}
FOR EACH ROW
EXECUTE FUNCTION creditsd.capture_insert();

CREATE TRIGGER creditsd_truncate
AFTER TRUNCATE ON {table}
FOR EACH STATEMENT
EXECUTE FUNCTION creditsd.capture_truncate();

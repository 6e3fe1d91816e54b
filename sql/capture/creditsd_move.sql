CREATE TRIGGER creditsd_move
AFTER UPDATE ON {table}
FOR EACH ROW
WHEN (OLD.{user_id} IS NOT NULL AND OLD.{user_id} IS DISTINCT FROM NEW.{user_id})
EXECUTE FUNCTION creditsd.capture_old();

-- A name for the type of a user's id, so that every query can say it, whatever the application chose.

CREATE DOMAIN creditsd.user_id AS {user_id_type}{user_id_collation};

COMMENT ON DOMAIN creditsd.user_id IS 'The type of a user''s id, as the application''s table has it.';

"""What stands in the database: the application's table as it is found, what is installed beside it, who may use it."""

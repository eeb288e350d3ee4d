"""What each published method is said to do, tried at small scale: one file a method, `report` for the table of all."""

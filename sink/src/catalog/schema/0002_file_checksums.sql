-- crc32c of a file's object, from when it was encoded. Null for files from before there was one.
ALTER TABLE files ADD COLUMN crc INTEGER;

-- Of which metrics and devices the rows of a file are; see `catalog/extent.rs`. Null for files from before this was
-- noted: they may hold rows of any.
ALTER TABLE files ADD COLUMN first_metric TEXT;
ALTER TABLE files ADD COLUMN first_device TEXT;
ALTER TABLE files ADD COLUMN last_metric TEXT;
ALTER TABLE files ADD COLUMN last_device TEXT;
ALTER TABLE files ADD COLUMN min_device TEXT;
ALTER TABLE files ADD COLUMN max_device TEXT;

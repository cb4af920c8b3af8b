-- When the sink decided that the agent holds this stream no more; 0 while it may.
ALTER TABLE streams ADD COLUMN lost_at_ns INTEGER NOT NULL DEFAULT 0;

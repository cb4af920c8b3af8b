-- What the sink knows beside the files. Numbers that are unsigned in the program are
-- stored as the same 64 bits. Migrations only add; a program that is too old to read
-- what a migration added is turned away by min_reader_version.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How far the journal is folded into committed files. One row per partition.
CREATE TABLE positions (
  part        INTEGER PRIMARY KEY,
  journal_id  BLOB    NOT NULL,
  position    INTEGER NOT NULL,
  lease_epoch INTEGER NOT NULL
) STRICT;

CREATE TABLE streams (
  id               INTEGER PRIMARY KEY,
  tenant           TEXT    NOT NULL,
  stream_id        BLOB    NOT NULL,
  agent            TEXT    NOT NULL,
  watermark        INTEGER NOT NULL,
  last_crc         INTEGER NOT NULL,
  readings_through INTEGER NOT NULL,
  stored           INTEGER NOT NULL,
  duplicates       INTEGER NOT NULL,
  closed           INTEGER NOT NULL,
  report           BLOB,
  report_at_ns     INTEGER NOT NULL,
  first_seen_ns    INTEGER NOT NULL,
  last_seen_ns     INTEGER NOT NULL,
  clock_offset_ns  INTEGER NOT NULL,
  UNIQUE (tenant, stream_id)
) STRICT;

CREATE TABLE drops (
  stream   INTEGER NOT NULL,
  reason   TEXT    NOT NULL,
  readings INTEGER NOT NULL,
  PRIMARY KEY (stream, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE series (
  id         INTEGER PRIMARY KEY,
  tenant     TEXT NOT NULL,
  agent      TEXT NOT NULL,
  device     TEXT NOT NULL,
  metric     TEXT NOT NULL,
  attributes TEXT NOT NULL,
  unit       TEXT NOT NULL,
  kind       TEXT NOT NULL,
  source     TEXT NOT NULL
) STRICT;

-- What the refs of an open stream mean.
CREATE TABLE stream_series (
  stream INTEGER NOT NULL,
  ref    INTEGER NOT NULL,
  series INTEGER NOT NULL,
  PRIMARY KEY (stream, ref)
) STRICT, WITHOUT ROWID;

-- A file is live while removed_at_ns is null; its row stays until the object is gone.
CREATE TABLE files (
  path            TEXT PRIMARY KEY,
  tenant          TEXT    NOT NULL,
  date            TEXT    NOT NULL,
  bytes           INTEGER NOT NULL,
  rows            INTEGER NOT NULL,
  min_ns          INTEGER NOT NULL,
  max_ns          INTEGER NOT NULL,
  max_received_ns INTEGER NOT NULL,
  from_position   INTEGER NOT NULL,
  through         INTEGER NOT NULL,
  created_ns      INTEGER NOT NULL,
  removed_at_ns   INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX files_live ON files (tenant, date) WHERE removed_at_ns IS NULL;
CREATE INDEX files_removed ON files (removed_at_ns) WHERE removed_at_ns IS NOT NULL;

-- Objects that may exist without a row in files.
CREATE TABLE intents (
  path        TEXT PRIMARY KEY,
  lease_epoch INTEGER NOT NULL,
  expires_ns  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows that retention removed, so that an audit of the files still closes.
CREATE TABLE expired (
  tenant   TEXT PRIMARY KEY,
  readings INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- State of the fold at the committed position that no other table holds.
CREATE TABLE snapshots (
  part   INTEGER PRIMARY KEY,
  format INTEGER NOT NULL,
  body   BLOB    NOT NULL
) STRICT;

-- Records the fold could not take, as they stand in the journal.
CREATE TABLE dead_letters (
  journal_id BLOB    NOT NULL,
  number     INTEGER NOT NULL,
  tenant     TEXT    NOT NULL,
  stream_id  BLOB    NOT NULL,
  sequence   INTEGER NOT NULL,
  readings   INTEGER NOT NULL,
  error      TEXT    NOT NULL,
  body       BLOB    NOT NULL,
  PRIMARY KEY (journal_id, number)
) STRICT, WITHOUT ROWID;

-- Numbers of a journal that can no longer be read.
CREATE TABLE journal_losses (
  journal_id  BLOB    NOT NULL,
  from_number INTEGER NOT NULL,
  through     INTEGER NOT NULL,
  reason      TEXT    NOT NULL,
  PRIMARY KEY (journal_id, from_number)
) STRICT, WITHOUT ROWID;

//! Connections to the catalog's file.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, SqliteConnection};

/// How long another connection to the file is waited for: by SQLite for a lock, here for a file that is being made. A
/// first connection waits twice as long at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to connect to a file that is being made.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Connects as soon as nobody else is in the way.
///
/// SQLite does not wait for others while it turns a new file into one with a write-ahead log, whatever
/// its busy timeout says: of several programs that meet there, all but one are told "locked" at once.
pub(super) async fn connect(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE);
    let give_up = Instant::now() + PATIENCE;
    loop {
        let connected = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(PATIENCE)
            .before_acquire(|connection, _| Box::pin(outside_transaction(connection)))
            .connect_with(options.clone())
            .await;
        match connected {
            Err(error) if is_locked(&error) && Instant::now() < give_up => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            done => return done,
        }
    }
}

/// Whether another connection was in the way (`SQLITE_BUSY`, the low byte of an extended code).
fn is_locked(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5;
    let code = error.as_database_error().and_then(|error| error.code());
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == BUSY)
}

/// Whether a pooled connection can begin a transaction; one that cannot is closed and replaced.
///
/// SQLite ends a transaction by itself when the disk is full. The driver's own rollback then fails
/// and it goes on counting the connection as inside one, for ever.
async fn outside_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Behind the rollback that a dropped transaction has queued.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

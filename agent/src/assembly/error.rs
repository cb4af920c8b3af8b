//! Why an agent could not start, and how the process then exits.

use std::io;
use std::net::SocketAddr;

use weir_process::exit::Exit;

use crate::sender::BadUrl;
use crate::spool::SpoolError;

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool cannot be used.
    #[error("cannot open the spool: {0}")]
    Spool(#[from] SpoolError),
    /// The sink's address cannot be used.
    #[error(transparent)]
    Sink(#[from] BadUrl),
    /// The status page cannot be served.
    #[error(
        "cannot listen on {address}: {source}: a second agent on one host needs its own WEIR_AGENT_STATUS_LISTEN and WEIR_AGENT_DATA_DIR"
    )]
    Listen {
        /// Where it was to be.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory cannot be written.
    #[error("cannot write to the data directory: {0}")]
    Marker(io::Error),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

impl StartError {
    /// How the process exits.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Sink(_) => Exit::Usage,
            Self::Spool(_) | Self::Listen { .. } | Self::Marker(_) => Exit::CannotCreate,
            Self::Signals(_) => Exit::Software,
        }
    }
}

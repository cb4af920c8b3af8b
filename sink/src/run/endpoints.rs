//! `endpoints.json` in the data directory: where a running sink really listens.
//!
//! `{"grpc":"127.0.0.1:4317","http":"127.0.0.1:4318"}`, written once both ports are open, removed
//! by a clean stop. For tools on the same machine and for tests that ask for port 0. Where the ports speak TLS,
//! `"tls":"/etc/weir/server.crt"` beside them is the file whose certificate they serve: by it the tools know the sink,
//! whatever names the certificate is for.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "endpoints.json";

/// Addresses as bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Where agents deliver.
    pub grpc: SocketAddr,
    /// Where questions are answered.
    pub http: SocketAddr,
    /// What they are encrypted with, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PathBuf>,
}

impl Endpoints {
    /// Replaces the file as a whole: a reader never sees half of it.
    pub(super) fn write(&self, data_dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(data_dir)?;
        let part = data_dir.join(format!("{NAME}.part"));
        std::fs::write(&part, serde_json::to_vec(self)?)?;
        std::fs::rename(part, data_dir.join(NAME))
    }

    /// What a running sink wrote, if any.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read(data_dir.join(NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn remove(data_dir: &Path) {
        // A file that stays names a port nobody listens on: whoever reads it is told so then.
        let _ = std::fs::remove_file(data_dir.join(NAME));
    }
}

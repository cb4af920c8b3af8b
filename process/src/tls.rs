//! TLS, the same for both programs: rustls with ring, 1.2 at least, 1.3 where both sides can.
//!
//! | file | what it is |
//! |---|---|
//! | `files` | certificates and keys out of PEM files, checked, with errors that name file and remedy |
//! | `facts` | what a certificate says of itself: names, issuer, times |
//! | `key` | a key of one's own, and a request for a certificate |
//! | `server` | the certificate that is served, read again when its files change |
//! | `listener` | accepts connections: many handshakes at once, each bounded in time, all of them in number |
//! | `stream` | a connection, encrypted or not, and who is at its other end ([`Peer`]) |
//! | `client` | whom a client trusts and who it says it is |
//! | `words` | what went wrong in a handshake, as an operator would put it |
//!
//! Sessions are not resumed: a certificate that was revoked or has expired must not live on in a ticket, and those who
//! talk to us keep their connections.

mod client;
mod facts;
mod files;
mod key;
mod listener;
mod server;
mod stream;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use client::{Client, ClientSettings, ConnectError, Encryption, Trust};
pub use facts::Facts;
pub use files::{FileError, Identity, PairFaults, check_cas};
pub use key::{Key, KeyError, certificate_pem, certificates_in, requested, verifies};
pub use listener::Listener;
pub use rustls::pki_types::CertificateDer;
pub use server::{Protocol, Server, ServerFiles};
pub use stream::{Peer, Stream};
pub use words::in_text;

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// SHA-256 of a certificate's DER, as `openssl x509 -fingerprint -sha256` shows it without the colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// That of these bytes.
    pub fn of(der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// 64 hexadecimal digits, with or without colons between.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let wrong = || {
            "is not a SHA-256 fingerprint: write the 64 hexadecimal digits that `weir-sink certs init` prints"
                .to_owned()
        };
        if digits.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

//! A connection that was accepted, encrypted or not, and who is at its other end.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// Whether nobody on the way can read or change what is sent.
    pub encrypted: bool,
    /// What it showed in the handshake and proved to own: signed by the CA of `tls.ca` and not expired then. Whom it
    /// stands for and whether it still may is not decided here.
    pub certificate: Option<CertificateDer<'static>>,
}

/// A connection.
pub struct Stream {
    wire: Wire,
    peer: Peer,
}

enum Wire {
    Plain(TcpStream),
    /// Behind a table of functions: a program that serves no TLS does not carry what reads and writes it.
    Tls(Box<dyn Encrypted>),
}

trait Encrypted: AsyncRead + AsyncWrite + Send + Unpin {}

impl Encrypted for TlsStream<TcpStream> {}

impl Stream {
    pub(super) fn plain(stream: TcpStream, address: SocketAddr) -> Self {
        Self {
            wire: Wire::Plain(stream),
            peer: Peer {
                address,
                encrypted: false,
                certificate: None,
            },
        }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, address: SocketAddr) -> Self {
        let shown = stream.get_ref().1.peer_certificates();
        let certificate = shown.and_then(|chain| chain.first()).cloned();
        Self {
            wire: Wire::Tls(Box::new(stream)),
            peer: Peer {
                address,
                encrypted: true,
                certificate,
            },
        }
    }

    /// Who is at its other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(wire) => Pin::new(wire).poll_read(context, buffer),
            Wire::Tls(wire) => Pin::new(&mut **wire).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(wire) => Pin::new(wire).poll_write(context, bytes),
            Wire::Tls(wire) => Pin::new(&mut **wire).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(wire) => Pin::new(wire).poll_write_vectored(context, slices),
            Wire::Tls(wire) => Pin::new(&mut **wire).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(wire) => wire.is_write_vectored(),
            Wire::Tls(wire) => wire.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(wire) => Pin::new(wire).poll_flush(context),
            Wire::Tls(wire) => Pin::new(&mut **wire).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(wire) => Pin::new(wire).poll_shutdown(context),
            Wire::Tls(wire) => Pin::new(&mut **wire).poll_shutdown(context),
        }
    }
}

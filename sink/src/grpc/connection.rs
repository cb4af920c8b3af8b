//! An agent's connection as tonic serves it.
//!
//! Who connects speaks first: the 24 bytes with which HTTP/2 begins. A connection on which they are not there after
//! [`PATIENCE`], however many of them are, is ended, encrypted or not: HTTP/2 itself would wait for them for ever. What
//! has spoken is watched by pings.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use weir_process::tls::{self, Listener, Peer};

/// How long the first bytes may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// `PRI * HTTP/2.0`, two empty lines, `SM`, an empty line.
const PREFACE_BYTES: usize = 24;

/// A connection, encrypted or not.
pub struct Connection<S = tls::Stream> {
    stream: S,
    /// While the first bytes are waited for.
    greeting: Option<Box<Greeting>>,
}

/// What has not been said yet.
struct Greeting {
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> From<S> for Connection<S> {
    fn from(stream: S) -> Self {
        let greeting = Greeting {
            bytes: PREFACE_BYTES,
            deadline: Box::pin(sleep(PATIENCE)),
        };
        Self {
            stream,
            greeting: Some(Box::new(greeting)),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.stream.peer().clone()
    }
}

/// The connections of a listener.
pub(super) struct Incoming {
    next: Pin<Box<dyn Future<Output = (tls::Stream, Listener)> + Send>>,
}

impl From<Listener> for Incoming {
    fn from(mut listener: Listener) -> Self {
        let next = Box::pin(async move { (listener.accept().await, listener) });
        Self { next }
    }
}

impl Stream for Incoming {
    type Item = Result<Connection, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (stream, listener) = ready!(self.next.as_mut().poll(context));
        *self = Self::from(listener);
        Poll::Ready(Some(Ok(stream.into())))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(greeting) = &mut this.greeting else {
            return read;
        };
        if read.is_pending() {
            ready!(greeting.deadline.as_mut().poll(context));
            tracing::debug!("a connection is ended: nobody spoke HTTP/2 on it");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        greeting.bytes = greeting
            .bytes
            .saturating_sub(buffer.filled().len() - before);
        if greeting.bytes == 0 {
            this.greeting = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    async fn read(connection: &mut Connection<tokio::io::DuplexStream>) -> io::Result<usize> {
        connection.read(&mut [0; 64]).await
    }

    /// One byte a second is not enough either. Mutations: the deadline moved on by each byte; none.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_the_preface_in_time_is_hung_up_on() {
        for pause in [Duration::from_secs(3600), Duration::from_secs(1)] {
            let (mut far, near) = duplex(64);
            let mut connection = Connection::from(near);
            let begun = Instant::now();
            let dripping = tokio::spawn(async move {
                for byte in PREFACE {
                    sleep(pause).await;
                    if far.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            });
            let ended = loop {
                match read(&mut connection).await {
                    Ok(bytes) => assert_eq!(bytes, 1),
                    Err(error) => break error.kind(),
                }
            };
            assert_eq!(ended, io::ErrorKind::TimedOut);
            assert_eq!(begun.elapsed(), PATIENCE);
            dripping.abort();
        }
    }

    /// Mutation: the deadline kept once all is said.
    #[tokio::test(start_paused = true)]
    async fn who_has_spoken_may_be_silent_and_costs_no_timer() {
        let (mut far, near) = duplex(64);
        let mut connection = Connection::from(near);
        for part in PREFACE.chunks(7) {
            far.write_all(part).await.unwrap();
            assert_eq!(read(&mut connection).await.unwrap(), part.len());
        }
        assert!(connection.greeting.is_none());
        assert!(
            timeout(PATIENCE * 100, read(&mut connection))
                .await
                .is_err()
        );
        drop(far);
        assert_eq!(read(&mut connection).await.unwrap(), 0);
    }
}

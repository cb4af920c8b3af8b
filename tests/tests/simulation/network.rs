//! Connections of the simulated network, and a way to break them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;
use weir_agent::sender::connect::{Dial, Wire};

/// Where the sink is.
pub(crate) const SINK: &str = "sink";
pub(crate) const PORT: u16 = 4317;

/// Breaks all connections an agent has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scissors(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cuts: u64,
    waiting: Vec<Waker>,
}

impl Scissors {
    /// Every connection that is open now answers with an error from here on.
    pub(crate) fn cut(&self) {
        let waiting = {
            let mut state = self.lock();
            state.cuts += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Connects an agent to the sink.
    pub(crate) fn dial(&self) -> Dial {
        let scissors = self.clone();
        Arc::new(move |_| {
            let scissors = scissors.clone();
            Box::pin(async move {
                let stream = TcpStream::connect((SINK, PORT)).await?;
                let born = scissors.lock().cuts;
                let line: Box<dyn Wire> = Box::new(Line {
                    stream,
                    scissors,
                    born,
                });
                Ok(line)
            })
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics under it")
    }
}

/// A connection until it is cut.
struct Line {
    stream: TcpStream,
    scissors: Scissors,
    born: u64,
}

impl Line {
    fn whole(&self, context: &Context<'_>) -> io::Result<()> {
        let mut state = self.scissors.lock();
        if state.cuts > self.born {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !state
            .waiting
            .iter()
            .any(|waker| waker.will_wake(context.waker()))
        {
            state.waiting.push(context.waker().clone());
        }
        Ok(())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

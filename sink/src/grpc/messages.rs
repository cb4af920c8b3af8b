//! The messages of a call, read from its body one at a time, each in a buffer of its own.
//!
//! tonic reads a call through one buffer that grows to the largest message and stays so for as long as the call
//! lasts, which is months: ten thousand agents that each caught up once would keep forty gigabytes. Here a message
//! takes what it needs and gives it back. One that came in one piece is not copied at all.
//!
//! What unfolds into much is unfolded in parts, so that the thread serves others in between.
//!
//! [`Own`] stands before the generated service: it takes the body out of the request and leaves an empty one for
//! tonic, which goes on doing everything else. [`Messages`] is the way back to the body, in the handler.
//!
//! | bytes of a message | |
//! |---|---|
//! | 1 | 0: not compressed. Nothing else is accepted, as the service offers no compression |
//! | 4 | length, big endian; at most the limit |
//! | length | protobuf |

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use weir_proto::codec::{self, Bounded};

/// Flag and length.
const HEAD_BYTES: usize = 5;

/// A body on its way from [`Own`] to [`Messages::of`].
#[derive(Clone)]
struct Handed(Arc<Mutex<Option<Body>>>);

/// A generated service whose handlers read the body themselves.
#[derive(Clone)]
pub(super) struct Own<S>(pub(super) S);

impl<S: NamedService> NamedService for Own<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Own<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let (mut parts, body) = request.into_parts();
        parts
            .extensions
            .insert(Handed(Arc::new(Mutex::new(Some(body)))));
        self.0.call(http::Request::from_parts(parts, Body::empty()))
    }
}

/// The messages of one call.
pub(super) struct Messages<T> {
    body: Body,
    limit: usize,
    /// Came and not looked at.
    chunk: Bytes,
    /// What is there of the head or the message that is being read.
    partial: BytesMut,
    /// Length of that message, once its head is read.
    length: Option<usize>,
    kind: PhantomData<fn() -> T>,
}

/// A message as it came, and may be decoded.
#[derive(Debug)]
pub(super) struct Received<T> {
    bytes: Bytes,
    effort: u64,
    kind: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Received<T> {
    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What it costs to take in what is in it, see [`codec::effort`].
    pub(super) fn effort(&self) -> u64 {
        self.effort
    }

    /// The message. Gives way to other tasks after each part of it but the last.
    pub(super) async fn unfold(self) -> Result<T, Status> {
        let (mut message, mut rest) = (T::default(), self.bytes);
        loop {
            let part = rest.split_to(codec::part(&rest));
            // As tonic's own codec says it.
            let merged = message.merge(part);
            merged.map_err(|e| Status::internal(e.to_string()))?;
            if rest.is_empty() {
                return Ok(message);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl<T: Message + Default + Bounded> Messages<T> {
    /// Of a request that came through [`Own`]; no message may be longer than `limit`.
    pub(super) fn of<R>(request: &tonic::Request<R>, limit: usize) -> Result<Self, Status> {
        let handed = request.extensions().get::<Handed>();
        let body = handed.and_then(|handed| handed.0.lock().expect("taking cannot panic").take());
        let body = body.ok_or_else(|| Status::internal("the call has no body"))?;
        Ok(Self::new(body, limit))
    }

    fn new(body: Body, limit: usize) -> Self {
        Self {
            body,
            limit,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            length: None,
            kind: PhantomData,
        }
    }

    /// The next message; nothing once the client has ended its side. May be dropped while it waits: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Option<Received<T>>, Status> {
        loop {
            while let Some(bytes) = self.piece()? {
                match self.length {
                    None => self.length = Some(self.length_of(&bytes)?),
                    Some(_) => {
                        self.length = None;
                        return Ok(Some(Received {
                            effort: T::look(&bytes)?,
                            bytes,
                            kind: PhantomData,
                        }));
                    }
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(status)) => return Err(status),
                None if self.length.is_none() && self.partial.is_empty() => return Ok(None),
                None => return Err(Status::internal("the client ended within a message")),
            }
        }
    }

    /// A whole head, or a whole message, if it is there by now.
    fn piece(&mut self) -> Result<Option<Bytes>, Status> {
        let wanted = self.length.unwrap_or(HEAD_BYTES);
        if self.partial.is_empty() && self.chunk.len() >= wanted {
            return Ok(Some(self.chunk.split_to(wanted)));
        }
        if self.partial.capacity() < wanted {
            self.partial.reserve(wanted - self.partial.len());
        }
        let taken = self.chunk.len().min(wanted - self.partial.len());
        self.partial.extend_from_slice(&self.chunk[..taken]);
        self.chunk.advance(taken);
        if self.partial.len() < wanted {
            self.chunk = Bytes::new();
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    fn length_of(&self, mut head: &[u8]) -> Result<usize, Status> {
        let flag = head.get_u8();
        if flag != 0 {
            let text = format!("a message with flag {flag}: compression was not agreed on");
            return Err(Status::internal(text));
        }
        let (length, limit) = (head.get_u32() as usize, self.limit);
        if length > limit {
            let text = format!(
                "Error, decoded message length too large: found {length} bytes, the limit is: {limit} bytes"
            );
            return Err(Status::out_of_range(text));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use weir_proto::v1::{DeliverRequest, Hello};

    use super::*;

    fn request(agent: &str) -> DeliverRequest {
        let hello = Hello {
            agent: agent.into(),
            ..Hello::default()
        };
        DeliverRequest {
            hello: Some(hello),
            ..DeliverRequest::default()
        }
    }

    fn framed(request: &DeliverRequest) -> Vec<u8> {
        let bytes = request.encode_to_vec();
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        [&[0], &length[..], &bytes].concat()
    }

    /// A body that comes in these pieces.
    fn body(pieces: Vec<Vec<u8>>) -> Body {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        Body::new(StreamBody::new(tokio_stream::iter(frames)))
    }

    async fn all(mut messages: Messages<DeliverRequest>) -> Result<Vec<DeliverRequest>, Status> {
        let mut found = Vec::new();
        while let Some(received) = messages.next().await? {
            found.push(received.unfold().await?);
        }
        Ok(found)
    }

    /// Fails when a head that came in two pieces is read as one, or a piece behind a message is left out.
    #[tokio::test]
    async fn messages_come_out_whole_however_the_bytes_come_in() {
        let sent = [
            request("a"),
            DeliverRequest::default(),
            request(&"long ".repeat(5000)),
            request("b"),
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(framed).collect();
        for size in [1, 2, 3, 5, 7, 100, 4096, bytes.len()] {
            let pieces = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            let found = all(Messages::new(body(pieces), 1 << 20))
                .await
                .expect("messages");
            assert_eq!(found, sent, "pieces of {size}");
        }
    }

    /// Fails when what a message took is kept for the next one.
    #[tokio::test]
    async fn nothing_is_kept_of_a_large_message() {
        let large = framed(&request(&"x".repeat(300_000)));
        let pieces = large.chunks(16_384).map(<[u8]>::to_vec).collect();
        let mut messages = Messages::<DeliverRequest>::new(body(pieces), 1 << 20);
        let message = messages.next().await.expect("a message");
        assert!(message.is_some());
        assert_eq!(messages.partial.capacity() + messages.chunk.len(), 0);
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_call() {
        let whole = framed(&request("agent"));
        let mut compressed = whole.clone();
        compressed[0] = 1;
        let cut = whole[..whole.len() - 1].to_vec();
        for (pieces, limit, code) in [
            (vec![compressed], 1000, tonic::Code::Internal),
            (vec![cut], 1000, tonic::Code::Internal),
            (vec![whole[..3].to_vec()], 1000, tonic::Code::Internal),
            (vec![whole.clone()], 3, tonic::Code::OutOfRange),
            (
                vec![vec![0, 0, 0, 0, 2, 0xff, 0xff]],
                1000,
                tonic::Code::InvalidArgument,
            ),
        ] {
            let status = all(Messages::new(body(pieces), limit))
                .await
                .expect_err("no message");
            assert_eq!(status.code(), code, "{status}");
        }
    }
}

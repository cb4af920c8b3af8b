//! HTTP/1.1 in the small: a server for probes and status pages, and a client for one request at a time.
//!
//! Both bound everything a peer can make them hold: header time, body size, body time, number of connections. Either
//! may be within TLS: a [`Listener`](crate::tls::Listener) is served, a [`Call`] is given a
//! [`Client`](crate::tls::Client).

mod client;
mod server;

#[cfg(test)]
mod tests;

pub use client::{Call, ClientError, Reply, get, post};
pub use server::{Limits, Request, Response, refusal, respond, serve, text};

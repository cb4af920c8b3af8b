//! The door of the gRPC port: every call passes it, whatever the service. A call of a method without a row in
//! `access::table` ends here, and so does one whose caller may not make it. Behind it the [`Caller`] is among the
//! request's extensions.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_types::{ErrorDetails, StatusExt as _};
use weir_process::tls::Peer;
use weir_proto::reasons;

use crate::access::{self, Access, Caller, Denied, table};

/// A service behind the door.
#[derive(Clone)]
pub(super) struct Gate<S> {
    inner: S,
    access: Access,
}

impl<S> Gate<S> {
    pub(super) fn new(inner: S, access: Access) -> Self {
        Self { inner, access }
    }
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is used, and another takes its place.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let access = self.access.clone();
        let (mut parts, body) = request.into_parts();
        Box::pin(async move {
            match admit(&access, &parts).await {
                Ok(caller) => {
                    parts.extensions.insert(caller);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

async fn admit(access: &Access, request: &Parts) -> Result<Caller, Status> {
    let path = request.uri.path();
    let Some(need) = table::method(path) else {
        return Err(Status::unimplemented("there is no such method here"));
    };
    let peer = request.extensions.get::<Peer>();
    let asked = access::Request {
        address: peer.map(|peer| peer.address),
        certificate: peer.and_then(|peer| peer.certificate.as_deref()),
        headers: &request.headers,
        object: path,
    };
    access
        .ask(asked, need)
        .await
        .map_err(|denied| status_of(&denied))
}

/// A refusal as the caller sees it.
pub(super) fn status_of(denied: &Denied) -> Status {
    let (code, text) = (denied.kind().code(), denied.to_string());
    match denied {
        // So that the agent leaves this stream alone, and not the others.
        Denied::Stream { .. } => {
            let (reason, domain) = (reasons::FOREIGN_STREAM, reasons::DOMAIN);
            let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
            Status::with_error_details(code, text, details)
        }
        _ => Status::new(code, text),
    }
}

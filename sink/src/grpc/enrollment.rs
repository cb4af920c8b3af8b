//! Enroll and Renew: certificates for agents. What is decided is decided in `access`.

use tonic::{Code, Request, Response, Status};
use weir_proto::v1;
use weir_proto::v1::enrollment_service_server::EnrollmentService;

use super::gate;
use crate::access::{self, Access, Caller, EnrolmentError, Issued, table};

/// No request is longer: a token, a name and a certificate request, or two certificates.
pub(super) const MAX_REQUEST_BYTES: usize = 64 << 10;

/// The service.
pub(super) struct Enrollment {
    access: Access,
}

impl Enrollment {
    pub(super) fn new(access: Access) -> Self {
        Self { access }
    }
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let address = address(&request);
        let asked = request.into_inner();
        let enroll = access::Enroll {
            token: &asked.token,
            agent: &asked.agent,
            csr: &asked.csr_der,
        };
        let headers = http::HeaderMap::new();
        let from = of(address, &headers, table::ENROLL);
        let issued = self.access.enroll(enroll, from).await;
        let issued = issued.map_err(|error| status_of(&error))?;
        let (not_after_seconds, lifetime_seconds) = times(&issued);
        Ok(Response::new(v1::EnrollResponse {
            certificate_chain: issued.chain,
            not_after_seconds,
            lifetime_seconds,
        }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let address = address(&request);
        let asked = request.into_inner();
        let renew = access::Renew {
            certificate: &asked.certificate_der,
            csr: &asked.csr_der,
            signature: &asked.signature,
        };
        let headers = http::HeaderMap::new();
        let from = of(address, &headers, table::RENEW);
        let issued = self.access.renew(renew, from).await;
        let issued = issued.map_err(|error| status_of(&error))?;
        let (not_after_seconds, lifetime_seconds) = times(&issued);
        Ok(Response::new(v1::RenewResponse {
            certificate_chain: issued.chain,
            not_after_seconds,
            lifetime_seconds,
        }))
    }
}

fn address<T>(request: &Request<T>) -> Option<std::net::SocketAddr> {
    request.extensions().get::<Caller>()?.address()
}

fn of<'a>(
    address: Option<std::net::SocketAddr>,
    headers: &'a http::HeaderMap,
    object: &'a str,
) -> access::Request<'a> {
    access::Request {
        address,
        certificate: None,
        headers,
        object,
    }
}

fn times(issued: &Issued) -> (i64, i64) {
    let lifetime = i64::try_from(issued.lifetime.as_secs()).unwrap_or(i64::MAX);
    (issued.not_after_ns / 1_000_000_000, lifetime)
}

fn status_of(error: &EnrolmentError) -> Status {
    match error {
        EnrolmentError::Denied(denied) => gate::status_of(denied),
        EnrolmentError::Request(_) => Status::invalid_argument(error.to_string()),
        EnrolmentError::Closed => Status::failed_precondition(error.to_string()),
        EnrolmentError::Catalog(cause) => {
            tracing::error!(error = %cause, "a certificate cannot be noted");
            Status::new(Code::Unavailable, error.to_string())
        }
    }
}

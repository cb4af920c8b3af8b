//! Who may speak: from what a request shows to a [`Caller`], or to a [`Denied`] that says why not.
//!
//! In: the authorization header and the address of each request, over gRPC and HTTP, and what it is about. Out: the
//! caller, whose tenant is the only one there is from then on. Promises:
//!
//! * identity decides the tenant, never a message. What is shown is always verified, also where nothing is asked for;
//! * every door has a row in [`table`], and what has none cannot be reached;
//! * what was revoked ends within a second, on calls that run too ([`Caller::ended`]);
//! * refusals are counted, and noted in the audit log as far as it can take them.
//!
//! | shown | is |
//! |---|---|
//! | `Bearer weir_ROLE_...` | a token of the catalog: its tenant, its role |
//! | a client certificate that the sink has signed and the catalog has | the agent of that name |
//! | `Bearer weir_local_...` | whoever can read `local-token` in the data directory: admin of the tenant that the header `weir-tenant` names |
//! | nothing | anonymous, of the tenant `default`, who may do everything, where no credential is asked for; else nobody |

mod authority;
mod caller;
mod denied;
mod enrolment;
mod follow;
mod known;
mod notes;
mod pattern;
mod refusals;
mod shown;
mod standing;
pub mod table;
#[cfg(test)]
mod tests;
pub mod token;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use weir_process::clock::{Clock, SystemClock};
use weir_process::metrics::Registry;
use weir_process::metrics::prometheus_client::encoding::EncodeLabelSet;
use weir_process::metrics::prometheus_client::metrics::counter::Counter;
use weir_process::metrics::prometheus_client::metrics::family::Family;
use weir_process::secret::Secret;
use weir_process::tls::Fingerprint;

use crate::catalog::{Catalog, CatalogError, Deed};
use crate::model::Role;

pub use authority::Authority;
pub use caller::{Caller, Who};
pub use denied::Denied;
pub use enrolment::{Enroll, Enrolment, EnrolmentError, Issued, RENEW, Renew};
use follow::look;
use known::{By, Known};
pub(crate) use notes::say;
pub use pattern::is_pattern;
use refusals::Refusals;
use shown::{at_home, bearer, confined};
use standing::Standing;
use table::Need;
use token::Shown;

/// Refusals that wait to be noted.
const MAX_WAITING: usize = 256;

/// The tenant that whoever is at home asks for.
pub const TENANT_HEADER: &str = "weir-tenant";

/// The label of refusals.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A handle; clones share what stands behind it.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    /// Whether whoever shows nothing is turned away.
    required: bool,
    local: Option<Secret>,
    enrolment: Option<Enrolment>,
    catalog: Option<Catalog>,
    clock: Arc<dyn Clock>,
    known: watch::Sender<Arc<Known>>,
    /// When the catalog was last looked at for somebody unknown.
    looked: tokio::sync::Mutex<Option<Instant>>,
    refusals: Mutex<Refusals>,
    waiting: mpsc::Sender<Deed>,
    /// Taken by [`Access::follow`].
    waited: Mutex<Option<mpsc::Receiver<Deed>>>,
    refused: Family<Reason, Counter>,
}

/// What is asked of callers.
#[derive(Debug, Default)]
pub struct Asking {
    /// Whether whoever shows nothing is turned away.
    pub required: bool,
    /// What whoever is at home shows.
    pub local: Option<Secret>,
    /// How agents get certificates; nothing where they do not.
    pub enrolment: Option<Enrolment>,
}

/// What a request shows of who sends it. Without `Debug`: the headers hold the token.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Of the other side.
    pub address: Option<SocketAddr>,
    /// What it proved to own in the handshake, DER.
    pub certificate: Option<&'a [u8]>,
    /// All of them.
    pub headers: &'a HeaderMap,
    /// What it is about: a path, for the audit log.
    pub object: &'a str,
}

impl Access {
    /// Nobody is asked who they are. For what runs inside another program.
    pub fn open_to_all() -> Self {
        Self::new(
            Asking::default(),
            None,
            Arc::new(SystemClock),
            Known::default(),
        )
    }

    /// Knows what the catalog has now; see [`Access::follow`].
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn load(
        catalog: &Catalog,
        clock: Arc<dyn Clock>,
        asking: Asking,
    ) -> Result<Self, CatalogError> {
        let known = look(catalog).await?;
        Ok(Self::new(asking, Some(catalog.clone()), clock, known))
    }

    fn new(asking: Asking, catalog: Option<Catalog>, clock: Arc<dyn Clock>, known: Known) -> Self {
        let (waiting, waited) = mpsc::channel(MAX_WAITING);
        Self {
            inner: Arc::new(Inner {
                required: asking.required,
                local: asking.local,
                enrolment: asking.enrolment,
                catalog,
                clock,
                known: watch::Sender::new(Arc::new(known)),
                looked: tokio::sync::Mutex::default(),
                refusals: Mutex::default(),
                waiting,
                waited: Mutex::new(Some(waited)),
                refused: Family::default(),
            }),
        }
    }

    /// Registers what it counts.
    pub fn register(&self, registry: &Registry) {
        registry.register(
            "access_refused",
            "requests that were turned away, by reason",
            self.inner.refused.clone(),
        );
    }

    /// Who sends this, if they may do what asks for `need`.
    ///
    /// # Errors
    /// They may not; the refusal is counted and noted.
    pub async fn ask(&self, request: Request<'_>, need: Need) -> Result<Caller, Denied> {
        let asked = match self.caller(request, need).await {
            Ok(caller) => {
                let checked = caller.check(need);
                checked
                    .map(|()| caller.clone())
                    .map_err(|denied| (denied, Some(caller)))
            }
            Err(denied) => Err((denied, None)),
        };
        asked.map_err(|(denied, caller)| {
            self.refuse(&denied, caller.as_ref(), request);
            denied
        })
    }

    /// Who sends this.
    async fn caller(&self, request: Request<'_>, need: Need) -> Result<Caller, Denied> {
        let inner = &self.inner;
        let Some(text) = bearer(request.headers)? else {
            if let Some(certificate) = request.certificate {
                return self.agent(certificate, request).await;
            }
            if inner.required && need != Need::Nothing {
                return Err(Denied::Missing);
            }
            let caller = Caller::anonymous(request.address);
            return confined(caller, request.headers);
        };
        let shown = Shown::parse(text).ok_or(Denied::Unreadable)?;
        let (role, id, secret) = match shown {
            Shown::Local(secret) => {
                let right = inner
                    .local
                    .as_ref()
                    .is_some_and(|own| secret.is_of_local(own));
                return if right {
                    at_home(request)
                } else {
                    Err(Denied::Unknown)
                };
            }
            Shown::Enroll { .. } => return Err(Denied::Unknown),
            Shown::Made { role, id, secret } => (role, id, secret),
        };
        if self.known().get(id).is_none() {
            self.look_for_somebody_new().await;
        }
        let known = self.known();
        let token = known.verify((role, id, &secret), inner.clock.wall_ns())?;
        let id: Arc<str> = id.into();
        let caller = Caller {
            tenant: Arc::clone(&token.tenant),
            who: Who::Token {
                id: Arc::clone(&id),
                name: Arc::clone(&token.name),
            },
            role,
            address: request.address,
            standing: Some(self.standing(By::Token(id))),
        };
        confined(caller, request.headers)
    }

    /// The agent whose certificate this is.
    async fn agent(&self, certificate: &[u8], request: Request<'_>) -> Result<Caller, Denied> {
        let print = Fingerprint::of(certificate).to_string();
        if self.known().certificate(&print).is_none() {
            self.look_for_somebody_new().await;
        }
        let known = self.known();
        let found = known.certificate(&print);
        let found = found.ok_or(Denied::UnknownCertificate)?;
        let by = By::Certificate(print.into());
        known.stands(&by, self.inner.clock.wall_ns())?;
        let caller = Caller {
            tenant: Arc::clone(&found.tenant),
            who: Who::Agent {
                name: Arc::clone(&found.agent),
            },
            role: Role::Agent,
            address: request.address,
            standing: Some(self.standing(by)),
        };
        confined(caller, request.headers)
    }

    fn standing(&self, by: By) -> Standing {
        Standing {
            by,
            known: self.inner.known.subscribe(),
            clock: Arc::clone(&self.inner.clock),
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.inner.known.borrow())
    }

    /// The catalog behind it, for reading the audit log.
    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.inner.catalog.as_ref()
    }
}

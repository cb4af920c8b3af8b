//! What each door asks for: one table for HTTP, by which requests find their way, and one for gRPC. What is not in
//! them cannot be reached.

use http::Method;

/// What a caller must be for something. Which role has what is in `Caller::check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Anybody, also without a credential.
    Nothing,
    /// Anybody with a credential.
    Known,
    /// An agent.
    Deliver,
    /// A reader at least.
    Read,
    /// An operator at least.
    Operate,
    /// An admin.
    Administer,
}

/// What an HTTP request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// A statement.
    Sql,
    /// The ledger.
    Ledger,
    /// Giving up streams.
    Settle,
    /// Damaged files.
    Files,
    /// Giving up a file.
    AcceptLoss,
    /// The audit log.
    Audit,
    /// Whether it lives or is ready.
    Probe,
    /// What the sink counts.
    Metrics,
}

/// One thing that can be asked for over HTTP.
#[derive(Debug, Clone)]
pub struct Route {
    /// GET (HEAD is as good), or POST.
    pub method: Method,
    /// The whole path.
    pub path: &'static str,
    /// Who may.
    pub need: Need,
    /// What it is about.
    pub page: Page,
}

const fn get(path: &'static str, need: Need, page: Page) -> Route {
    Route {
        method: Method::GET,
        path,
        need,
        page,
    }
}

const fn post(path: &'static str, need: Need, page: Page) -> Route {
    Route {
        method: Method::POST,
        path,
        need,
        page,
    }
}

/// Everything that can be asked for over HTTP, each path once.
pub static ROUTES: [Route; 10] = [
    post("/v1/sql", Need::Read, Page::Sql),
    get("/v1/ledger", Need::Read, Page::Ledger),
    post("/v1/ledger/settle", Need::Operate, Page::Settle),
    get("/v1/files", Need::Read, Page::Files),
    post("/v1/files/accept-loss", Need::Operate, Page::AcceptLoss),
    get("/v1/audit", Need::Administer, Page::Audit),
    get("/livez", Need::Nothing, Page::Probe),
    get("/readyz", Need::Nothing, Page::Probe),
    get("/healthz", Need::Nothing, Page::Probe),
    get("/metrics", Need::Read, Page::Metrics),
];

/// What agents call.
pub const DELIVER: &str = "/weir.v1.DeliveryService/Deliver";

/// What an agent without a certificate calls; it carries its own proof.
pub const ENROLL: &str = "/weir.v1.EnrollmentService/Enroll";
/// What an agent calls whose certificate ends; it carries its own proof.
pub const RENEW: &str = "/weir.v1.EnrollmentService/Renew";

/// Every method of every gRPC service.
pub static METHODS: [(&str, Need); 6] = [
    (DELIVER, Need::Deliver),
    (ENROLL, Need::Nothing),
    (RENEW, Need::Nothing),
    ("/grpc.health.v1.Health/Check", Need::Nothing),
    ("/grpc.health.v1.Health/Watch", Need::Nothing),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Need::Known,
    ),
];

/// What a gRPC method asks for; nothing where there is none of this path.
pub fn method(path: &str) -> Option<Need> {
    let found = METHODS.iter().find(|(name, _)| *name == path);
    found.map(|(_, need)| *need)
}

/// What is at this path over HTTP.
pub fn route(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}

//! Who comes to the doors: everybody there can be, by what they show.

use std::sync::Arc;

use weir_process::tls::{Client, ClientSettings, Key, Trust, certificate_pem};
use weir_proto::v1;
use weir_proto::v1::enrollment_service_client::EnrollmentServiceClient;
use weir_tests::world::Sink;

use super::channel;

/// What a door asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Everybody,
    Known,
    Agents,
    Readers,
    Operators,
    Admins,
}

/// Who comes: a name, and the role of what they show; none where that is nothing or wrong.
pub(super) struct Somebody {
    pub(super) name: &'static str,
    pub(super) token: Option<String>,
    /// Connects with a certificate, where they show one.
    certificate: Option<Arc<Client>>,
    pub(super) role: Option<&'static str>,
    /// Whether the readings there are belong to their tenant.
    pub(super) is_own: bool,
}

impl Somebody {
    /// Whether what they show is wrong, which is refused everywhere.
    pub(super) fn is_wrong(&self) -> bool {
        self.token.is_some() && self.role.is_none()
    }

    /// What they connect with; `plain` is of those who show no certificate.
    pub(super) fn client<'a>(&'a self, plain: &'a Arc<Client>) -> &'a Arc<Client> {
        self.certificate.as_ref().unwrap_or(plain)
    }

    pub(super) fn may(&self, door: For) -> bool {
        let Some(role) = self.role else {
            return door == For::Everybody && self.token.is_none();
        };
        match door {
            For::Everybody | For::Known => true,
            For::Agents => role == "agent",
            For::Readers => ["reader", "operator", "admin"].contains(&role),
            For::Operators => ["operator", "admin"].contains(&role),
            For::Admins => role == "admin",
        }
    }
}

/// An agent of south's.
pub(super) const OTHER_AGENT: &str = "mill-1";

/// A name, a device, a stream, a number: of the tenant north, and nobody else's to know.
pub(super) const AGENT: &str = "press-of-north";
pub(super) const NUMBER: &str = "424242.25";

/// Everybody there can be: without a credential, with tokens, and with certificates that the sink signed.
pub(super) async fn all(sink: &Sink, plain: &Arc<Client>) -> Vec<Somebody> {
    let mut all = with_tokens(sink);
    for (name, tenant, agent, is_own) in [
        ("an enrolled agent", "north", AGENT, true),
        (
            "another tenant's enrolled agent",
            "south",
            OTHER_AGENT,
            false,
        ),
    ] {
        all.push(Somebody {
            name,
            token: None,
            certificate: Some(enrolled(sink, plain, (tenant, agent)).await),
            role: Some("agent"),
            is_own,
        });
    }
    all
}

/// The one of this name.
pub(super) fn named<'a>(all: &'a [Somebody], name: &str) -> &'a Somebody {
    let found = all.iter().find(|who| who.name == name);
    found.unwrap_or_else(|| panic!("there is no {name}"))
}

/// A certificate for an agent, asked for as an agent does.
async fn enrolled(sink: &Sink, plain: &Arc<Client>, (tenant, agent): (&str, &str)) -> Arc<Client> {
    let key = Key::generate().expect("a key");
    let request = v1::EnrollRequest {
        token: sink.enroll_token(&format!(
            "--tenant {tenant} --agent-pattern {agent} --uses 1"
        )),
        csr_der: key.request().expect("a request"),
        agent: agent.to_owned(),
    };
    let mut service = EnrollmentServiceClient::new(channel(sink, plain).await);
    let answer = service.enroll(request).await.expect("a certificate");
    let mut text = key.pem().expose().to_owned();
    for certificate in answer.into_inner().certificate_chain {
        text.push_str(&certificate_pem(&certificate));
    }
    let path = sink.data().join(format!("{agent}.pem"));
    std::fs::write(&path, text).expect("written");
    Arc::new(Client::new(ClientSettings {
        trust: Trust::File(sink.ca()),
        identity: Some((path.clone(), path)),
        setting: "-",
    }))
}

fn with_tokens(sink: &Sink) -> Vec<Somebody> {
    let made = |role: &str, tenant: &str, more: &str| {
        sink.token(&format!("--role {role} --tenant {tenant} {more}"))
    };
    let agent = made("agent", "north", "--agent-pattern press-*");
    let right = made("reader", "north", "");
    let last = if right.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{last}", &right[..right.len() - 1]);
    let somebody = |name, token, role, is_own| Somebody {
        name,
        token,
        certificate: None,
        role,
        is_own,
    };
    vec![
        somebody("nobody", None, None, false),
        somebody("a wrong token", Some(wrong), None, false),
        somebody("an agent", Some(agent), Some("agent"), true),
        somebody("a reader", Some(right), Some("reader"), true),
        somebody(
            "an operator",
            Some(made("operator", "north", "")),
            Some("operator"),
            true,
        ),
        somebody(
            "an admin",
            Some(made("admin", "north", "")),
            Some("admin"),
            true,
        ),
        somebody(
            "another tenant's admin",
            Some(made("admin", "south", "")),
            Some("admin"),
            false,
        ),
        somebody(
            "another tenant's agent",
            Some(made("agent", "south", "--agent-pattern *")),
            Some("agent"),
            false,
        ),
    ]
}

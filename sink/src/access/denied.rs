//! Why somebody is turned away. The text goes to whoever asked: it names the thing and the remedy, and nothing that
//! somebody without a credential should not know.

use crate::model::{Kind, Role};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing was shown where something is asked for.
    #[error(
        "a credential is needed: an agent sets WEIR_AGENT_SINK_TOKEN_FILE, other programs send `authorization: Bearer \
         weir_...`; `weir-sink token create` on the sink's machine makes one"
    )]
    Missing,
    /// What was shown is no token of this program.
    #[error(
        "the authorization header cannot be read: send one, `Bearer weir_...`, with the token as it was shown"
    )]
    Unreadable,
    /// No such token, or not its secret.
    #[error(
        "this token is not known here: was it made on another sink, or copied in part? `weir-sink token list` shows \
         those there are"
    )]
    Unknown,
    /// It was right once.
    #[error("token {0} was revoked: `weir-sink token create` makes another")]
    Revoked(String),
    /// It was right for a time.
    #[error("token {0} has expired: `weir-sink token create` makes another")]
    Expired(String),
    /// It was right so often.
    #[error(
        "enrol token {0} is used up, it was good for {1}: `weir-sink enroll-token create` makes another"
    )]
    UsedUp(String, u64),
    /// What was shown is no token to enrol with.
    #[error(
        "this is no enrol token: `weir-sink enroll-token create` makes one, which begins with weir_enroll_"
    )]
    NoEnrollToken,
    /// The CA signed it, and this sink does not know it.
    #[error(
        "this client certificate is not known here: enrol the agent (`weir-sink enroll-token create`); what another sink \
         signed does not count"
    )]
    UnknownCertificate,
    /// It was right once.
    #[error(
        "the certificates of agent {0} were revoked: to let it in again give it an enrol token and remove its identity directory"
    )]
    RevokedCertificate(String),
    /// It was right for a time.
    #[error(
        "the certificate of agent {0} has ended, too long ago to be renewed: give it an enrol token"
    )]
    ExpiredCertificate(String),
    /// It is right, and for something else.
    #[error("{}", role_text(*.is, *.least))]
    Role {
        /// What it is for.
        is: Role,
        /// What is needed.
        least: Role,
    },
    /// It is right, and for other agents.
    #[error(
        "this credential is for agent {is:?} and the agent calls itself {said:?}: set WEIR_AGENT_NAME to its name, or \
         give this agent its own credential"
    )]
    Agent {
        /// The name or pattern it is for.
        is: String,
        /// What Hello said.
        said: String,
    },
    /// It is right, and the stream was begun by an agent it is not for.
    #[error(
        "stream {stream} belongs to agent {owner:?}, this is agent {said:?} with a credential for {is:?}. Was the agent renamed, \
         give it a token whose pattern has both names until what it holds is delivered (`weir-sink token create --role \
         agent`); does it run with a copy of another's data directory, give it an empty one"
    )]
    Stream {
        /// The name or pattern the credential is for.
        is: String,
        /// What Hello said.
        said: String,
        /// Which.
        stream: String,
        /// Who began it.
        owner: String,
    },
    /// Another tenant was asked for.
    #[error(
        "this credential is for its own tenant alone: leave the weir-tenant header out, or use one made for that tenant"
    )]
    Tenant,
}

fn role_text(is: Role, least: Role) -> String {
    let (is, needed) = (is.name(), least.name());
    match least {
        Role::Agent => format!(
            "this credential is for the role {is}, and agents alone may deliver: `weir-sink token create --role agent` \
             makes one for them"
        ),
        _ => format!(
            "this credential is for the role {is}, and this needs {needed}: `weir-sink token create --role {needed}` \
             makes one"
        ),
    }
}

impl Denied {
    /// Which kind of error it is, for codes and statuses.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing
            | Self::Unreadable
            | Self::Unknown
            | Self::Revoked(_)
            | Self::Expired(_)
            | Self::UsedUp(..)
            | Self::NoEnrollToken
            | Self::UnknownCertificate
            | Self::RevokedCertificate(_)
            | Self::ExpiredCertificate(_) => Kind::Unauthenticated,
            Self::Role { .. } | Self::Agent { .. } | Self::Stream { .. } | Self::Tenant => {
                Kind::Forbidden
            }
        }
    }

    /// What it is about, for the audit log, where that is more than the request says.
    pub fn object(&self) -> Option<String> {
        match self {
            Self::Stream {
                said,
                stream,
                owner,
                ..
            } => Some(format!("stream {stream} of agent {owner}, by agent {said}")),
            Self::Agent { said, .. } => Some(format!("agent {said}")),
            _ => None,
        }
    }

    /// The label of the counter, and the outcome in the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable | Self::NoEnrollToken => "unreadable",
            Self::Unknown | Self::UnknownCertificate => "unknown",
            Self::Revoked(_) | Self::RevokedCertificate(_) => "revoked",
            Self::Expired(_) | Self::ExpiredCertificate(_) => "expired",
            Self::UsedUp(..) => "used_up",
            Self::Role { .. } => "role",
            Self::Agent { .. } => "agent",
            Self::Stream { .. } => "stream",
            Self::Tenant => "tenant",
        }
    }
}

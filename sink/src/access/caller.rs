//! Who asks: the answer of [`Access`](super::Access) to what was shown, and the only place a tenant comes from.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::denied::Denied;
use super::pattern;
use super::standing::Standing;
use super::table::Need;
use crate::model::{DEFAULT_TENANT, Role};

/// How somebody is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A token that was made for a person, a machine or agents.
    Token {
        /// Of the token.
        id: Arc<str>,
        /// What it is for; of agents the names that may use it.
        name: Arc<str>,
    },
    /// An agent, by its certificate.
    Agent {
        /// Its name.
        name: Arc<str>,
    },
    /// Somebody who can read the sink's data directory.
    Local,
    /// Nobody was asked.
    Anonymous,
}

/// Somebody, what they may do, and whose data they see.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) tenant: Arc<str>,
    pub(super) who: Who,
    pub(super) role: Role,
    pub(super) address: Option<SocketAddr>,
    /// Of what can be revoked.
    pub(super) standing: Option<Standing>,
}

impl Caller {
    /// Somebody who shows nothing where nothing is asked for.
    pub(super) fn anonymous(address: Option<SocketAddr>) -> Self {
        Self {
            tenant: DEFAULT_TENANT.into(),
            who: Who::Anonymous,
            role: Role::Admin,
            address,
            standing: None,
        }
    }

    /// Whose data.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Who it is.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Where the request came from.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether this may be told of the sink as a whole, all tenants: whoever can read its directory, or where
    /// nobody is asked who they are.
    pub fn is_at_home(&self) -> bool {
        matches!(self.who, Who::Local | Who::Anonymous)
    }

    /// Whether this may do what asks for `need`.
    pub(super) fn check(&self, need: Need) -> Result<(), Denied> {
        let least = match need {
            Need::Nothing | Need::Known => return Ok(()),
            Need::Deliver if self.who == Who::Anonymous || self.role == Role::Agent => {
                return Ok(());
            }
            Need::Deliver => Role::Agent,
            Need::Read => Role::Reader,
            Need::Operate => Role::Operator,
            Need::Administer => Role::Admin,
        };
        if need != Need::Deliver && self.role >= least {
            return Ok(());
        }
        Err(Denied::Role {
            is: self.role,
            least,
        })
    }

    /// Whether an agent of this name may deliver with what was shown.
    ///
    /// # Errors
    /// It is for others.
    pub fn check_agent(&self, agent: &str) -> Result<(), Denied> {
        match &self.who {
            Who::Token { name, .. } if !pattern::matches(name, agent) => Err(Denied::Agent {
                is: name.to_string(),
                said: agent.to_owned(),
            }),
            Who::Agent { name } if **name != *agent => Err(Denied::Agent {
                is: name.to_string(),
                said: agent.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The answer to an agent that says Hello for a stream which another one, that this is not for, has begun.
    pub fn not_its_stream(&self, (said, owner): (&str, &str), stream: &str) -> Denied {
        let is = match &self.who {
            Who::Token { name, .. } | Who::Agent { name } => name.to_string(),
            Who::Local | Who::Anonymous => said.to_owned(),
        };
        Denied::Stream {
            is,
            said: said.to_owned(),
            stream: stream.to_owned(),
            owner: owner.to_owned(),
        }
    }

    /// Ends when what was shown does not stand any more: it was revoked, or its time is over.
    pub async fn ended(self) -> Denied {
        match self.standing {
            Some(standing) => standing.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(formatter, "token {id} ({name})"),
            Self::Agent { name } => write!(formatter, "agent {name}"),
            Self::Local => formatter.write_str("local"),
            Self::Anonymous => formatter.write_str("anonymous"),
        }
    }
}

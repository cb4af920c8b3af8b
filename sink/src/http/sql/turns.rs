//! Who may run a statement now: so many at a time in all, and so many of one tenant, so that the statements of one
//! leave room for those of another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what runs.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    most_of_tenant: usize,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    all: usize,
    /// Of tenants that run some.
    of_tenant: HashMap<Arc<str>, usize>,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// By everybody together.
    ByAll,
    /// By the tenant itself.
    ByTenant,
}

/// A statement that runs. Dropping it gives the turn back.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    tenant: Arc<str>,
}

impl Turns {
    /// `most_of_tenant` of 0 is no limit of its own.
    pub(super) fn new(most: usize, most_of_tenant: usize) -> Self {
        let own = if most_of_tenant == 0 {
            most
        } else {
            most_of_tenant
        };
        Self {
            most,
            most_of_tenant: own,
            running: Mutex::default(),
        }
    }

    /// A turn, if there is one now.
    pub(super) fn take(&self, tenant: &Arc<str>) -> Result<Turn<'_>, Taken> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.all >= self.most {
            return Err(Taken::ByAll);
        }
        let own = running.of_tenant.entry(Arc::clone(tenant)).or_default();
        if *own >= self.most_of_tenant {
            return Err(Taken::ByTenant);
        }
        *own += 1;
        running.all += 1;
        Ok(Turn {
            turns: self,
            tenant: Arc::clone(tenant),
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let running = &self.turns.running;
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running.all -= 1;
        if let Some(own) = running.of_tenant.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                running.of_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutation: turns counted over all tenants let the first that comes take them all.
    #[test]
    fn one_tenant_leaves_room_for_another() {
        let turns = Turns::new(5, 2);
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        let first = turns.take(&a).expect("nobody has one");
        let _second = turns.take(&a).expect("it may have two");
        assert_eq!(turns.take(&a).err(), Some(Taken::ByTenant));
        let _others = [&b, &b, &c].map(|tenant| turns.take(tenant).expect("there is room"));
        assert_eq!(turns.take(&c).err(), Some(Taken::ByAll));
        drop(first);
        assert!(turns.take(&c).is_ok());
        assert!(turns.take(&a).is_ok());
    }

    /// Mutation: entries that stay when nothing runs any more.
    #[test]
    fn who_runs_nothing_takes_no_memory() {
        let turns = Turns::new(5, 0);
        for number in 0..100 {
            let tenant: Arc<str> = format!("t{number}").into();
            let all: Vec<_> = (0..5).map_while(|_| turns.take(&tenant).ok()).collect();
            assert_eq!(all.len(), 5, "without a limit of its own it may have all");
        }
        let running = turns.running.lock().expect("nobody panicked");
        assert_eq!((running.all, running.of_tenant.len()), (0, 0));
    }
}

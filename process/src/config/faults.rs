//! What is wrong with a configuration: all of it at once, one line each.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable, flag or file entry, as the operator wrote it.
    pub name: String,
    /// What is wrong with it and what to write in its place.
    pub message: String,
}

/// Everything that is wrong. Shown as one line per fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub fn push(&mut self, name: impl Into<String>, message: impl Into<String>) {
        let fault = Fault {
            name: name.into(),
            message: message.into(),
        };
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    /// Adds all of another report.
    pub fn append(&mut self, other: Self) {
        for fault in other.0 {
            self.push(fault.name, fault.message);
        }
    }

    /// Whether all is well.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One after the other, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.name, self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write!(out, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

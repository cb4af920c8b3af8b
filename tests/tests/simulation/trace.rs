//! What happened, in order: lines to print, and one number to compare two runs by.

use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Vec<String>,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: Vec::new(),
        }
    }
}

impl Trace {
    /// Adds an event.
    pub(crate) fn tell(&mut self, at: Duration, event: &str) {
        let line = format!("{:>9.3}s {event}", at.as_secs_f64());
        for byte in line.bytes() {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines.push(line);
    }

    /// The same for the same events in the same order.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

//! Network interfaces.
//!
//! On Linux all of them stand in one file, `/proc/net/dev`; sysinfo opens eleven files per interface for the same numbers,
//! which on a host of many containers takes longer than everything else together. Elsewhere sysinfo is asked.
//!
//! ```text
//! Inter-|   Receive                                                |  Transmit
//!  face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
//!   eth0: 157843391    7538    0    0    0     0          0         0   678106    5185    0    0    0     0       0          0
//! ```

use super::number;
use crate::sensors::{Metric, Recorder, SensorError};

const IO: Metric<'_> = Metric::counter("system.network.io", "By");
const PACKETS: Metric<'_> = Metric::counter("system.network.packet.count", "{packet}");
const ERRORS: Metric<'_> = Metric::counter("system.network.errors", "{error}");

/// What went one way through an interface since it came up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Traffic {
    bytes: u64,
    packets: u64,
    errors: u64,
}

/// One interface's name, what it received and what it transmitted.
type Interface<'a> = (&'a str, Traffic, Traffic);

/// Whether an interface carries the machine's own traffic to the outside: not those of containers, bridges and tunnels.
fn is_real(name: &str) -> bool {
    const PRIVATE: &[&str] = &[
        "lo",
        "veth",
        "docker",
        "br-",
        "virbr",
        "cni",
        "flannel",
        "cali",
        "cilium",
        "lxc",
        "podman",
        "ifb",
        "dummy",
        "tunl",
        "sit",
        "kube-",
        "nodelocaldns",
        "gre",
        "erspan",
        "ip6tnl",
        "ip6gre",
        "vnet",
        "tap",
    ];
    !PRIVATE.iter().any(|prefix| name.starts_with(prefix))
}

fn record(mut interfaces: Vec<Interface<'_>>, recorder: &mut Recorder) {
    // In one order, whatever order they came up in, so that the shape stays.
    interfaces.sort_by_key(|(name, ..)| *name);
    for (name, received, transmitted) in interfaces {
        for (direction, traffic) in [("receive", received), ("transmit", transmitted)] {
            let named = [
                ("network.interface.name", name),
                ("network.io.direction", direction),
            ];
            let device = [("system.device", name), ("network.io.direction", direction)];
            recorder.number(IO, &named, number(traffic.bytes));
            recorder.number(PACKETS, &device, number(traffic.packets));
            recorder.number(ERRORS, &named, number(traffic.errors));
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io::{Read, Seek};

    use super::{Interface, Recorder, SensorError, Traffic, is_real, record};

    const PATH: &str = "/proc/net/dev";

    /// The open file, and room for its text.
    pub(in super::super) struct Network {
        file: File,
        text: String,
    }

    impl Network {
        /// Opens the file.
        pub(in super::super) fn open() -> Result<Self, SensorError> {
            let file = File::open(PATH).map_err(refused)?;
            Ok(Self {
                file,
                text: String::new(),
            })
        }

        /// Reads every interface that is the machine's own.
        pub(in super::super) fn record(
            &mut self,
            recorder: &mut Recorder,
        ) -> Result<(), SensorError> {
            self.text.clear();
            self.file.rewind().map_err(refused)?;
            self.file.read_to_string(&mut self.text).map_err(refused)?;
            record(
                self.text
                    .lines()
                    .filter_map(interface)
                    .filter(|(name, ..)| is_real(name))
                    .collect(),
                recorder,
            );
            Ok(())
        }
    }

    fn refused(error: std::io::Error) -> SensorError {
        SensorError::Read {
            what: PATH,
            reason: error.to_string(),
        }
    }

    /// One line of the file; None for its headings.
    pub(super) fn interface(line: &str) -> Option<Interface<'_>> {
        // A name may hold a colon (an alias), a number may not.
        let (name, numbers) = line.rsplit_once(':')?;
        let mut fields = [0_u64; 11];
        let mut numbers = numbers.split_ascii_whitespace();
        for field in &mut fields {
            *field = numbers.next()?.parse().ok()?;
        }
        let traffic = |first: usize| Traffic {
            bytes: fields[first],
            packets: fields[first + 1],
            errors: fields[first + 2],
        };
        Some((name.trim_start(), traffic(0), traffic(8)))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use sysinfo::Networks;

    use super::{Recorder, SensorError, Traffic, is_real, record};

    /// The interfaces as sysinfo knows them.
    pub(in super::super) struct Network(Networks);

    impl Network {
        /// Nothing is listed yet.
        pub(in super::super) fn open() -> Result<Self, SensorError> {
            let refused = |error: sysinfo::Error| SensorError::Read {
                what: "network interfaces",
                reason: error.to_string(),
            };
            Ok(Self(Networks::new().map_err(refused)?))
        }

        /// Reads every interface that is the machine's own.
        pub(in super::super) fn record(
            &mut self,
            recorder: &mut Recorder,
        ) -> Result<(), SensorError> {
            self.0.refresh(true);
            let named: Vec<_> = self
                .0
                .iter()
                .map(|(name, data)| (name.to_string_lossy(), data))
                .collect();
            let interfaces = named
                .iter()
                .filter(|(name, _)| is_real(name))
                .map(|(name, data)| {
                    let received = Traffic {
                        bytes: data.total_received(),
                        packets: data.total_packets_received(),
                        errors: data.total_errors_on_received(),
                    };
                    let transmitted = Traffic {
                        bytes: data.total_transmitted(),
                        packets: data.total_packets_transmitted(),
                        errors: data.total_errors_on_transmitted(),
                    };
                    (&**name, received, transmitted)
                });
            record(interfaces.collect(), recorder);
            Ok(())
        }
    }
}

pub(super) use system::Network;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_the_kernels_table() {
        let line = "  eth0: 157843391    7538    1    2    0     0          0         0   678106    5185    3    0    0     0       0          0";
        let received = Traffic {
            bytes: 157_843_391,
            packets: 7_538,
            errors: 1,
        };
        let transmitted = Traffic {
            bytes: 678_106,
            packets: 5_185,
            errors: 3,
        };
        assert_eq!(
            system::interface(line),
            Some(("eth0", received, transmitted))
        );
    }

    #[test]
    fn a_name_with_a_colon_and_a_number_without_a_space_are_read() {
        let (name, received, _) =
            system::interface("eth0:1:123 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        assert_eq!((name, received.bytes), ("eth0:1", 123));
    }

    #[test]
    fn headings_and_broken_lines_are_left_out() {
        for line in [
            "Inter-|   Receive  |  Transmit",
            " face |bytes packets",
            "eth0: 1 2",
            "eth0: a b c d e f g h i j k",
            "",
        ] {
            assert_eq!(system::interface(line), None, "{line}");
        }
    }

    #[test]
    fn interfaces_of_containers_are_not_the_machines_own() {
        for name in ["lo", "veth12ab", "docker0", "br-1234", "cni0"] {
            assert!(!is_real(name), "{name}");
        }
        for name in ["eth0", "enp3s0", "wlan0", "wwan0", "bond0", "br0", "en0"] {
            assert!(is_real(name), "{name}");
        }
    }
}

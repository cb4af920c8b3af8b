//! Disks and the file systems on them.
//!
//! One device may be mounted in many places (bind mounts of containers): its first mount point in alphabetical order stands
//! for all of them. File systems without a device of their own (tmpfs, overlays of containers, FUSE) are left out, but
//! for the root, which is always shown.

use std::ffi::OsStr;

use sysinfo::{Disk, DiskRefreshKind, Disks};

use super::{number, share};
use crate::sensors::{Metric, Recorder};

const DISK_IO: Metric<'_> = Metric::counter("system.disk.io", "By");
const FILESYSTEM_USAGE: Metric<'_> = Metric::gauge("system.filesystem.usage", "By");
const FILESYSTEM_UTILIZATION: Metric<'_> = Metric::gauge("system.filesystem.utilization", "1");

/// The mounted disks and which of them are shown.
pub(super) struct Storage {
    disks: Disks,
    shown: Vec<Shown>,
}

/// One file system that is shown, with its names as text.
struct Shown {
    place: usize,
    device: String,
    mountpoint: String,
    kind: String,
    has_io: bool,
}

impl Storage {
    /// Nothing is listed yet.
    pub(super) fn open() -> Result<Self, sysinfo::Error> {
        Ok(Self {
            disks: Disks::new()?,
            shown: Vec::new(),
        })
    }

    /// Reads every disk that is shown; with `relist` looks first which there are.
    pub(super) fn record(&mut self, relist: bool, recorder: &mut Recorder) {
        let what = DiskRefreshKind::nothing().with_storage().with_io_usage();
        if relist {
            self.disks.refresh_specifics(true, what);
            self.shown = choose(&self.disks);
        } else {
            for shown in &self.shown {
                self.disks[shown.place].refresh_specifics(what);
            }
        }
        for shown in &self.shown {
            record(shown, &self.disks[shown.place], recorder);
        }
    }
}

fn record(shown: &Shown, disk: &Disk, recorder: &mut Recorder) {
    let device = ("system.device", shown.device.as_str());
    if shown.has_io {
        let usage = disk.usage();
        for (direction, bytes) in [
            ("read", usage.total_read_bytes),
            ("write", usage.total_written_bytes),
        ] {
            recorder.number(
                DISK_IO,
                &[device, ("disk.io.direction", direction)],
                number(bytes),
            );
        }
    }
    let total = disk.total_space();
    if total == 0 {
        return;
    }
    let free = disk.available_space();
    for (state, bytes) in [("used", total.saturating_sub(free)), ("free", free)] {
        let attributes = [
            device,
            ("system.filesystem.mountpoint", shown.mountpoint.as_str()),
            ("system.filesystem.type", shown.kind.as_str()),
            ("system.filesystem.state", state),
        ];
        recorder.number(FILESYSTEM_USAGE, &attributes, number(bytes));
        recorder.number(FILESYSTEM_UTILIZATION, &attributes, share(bytes, total));
    }
}

fn choose(disks: &[Disk]) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut candidates: Vec<(usize, &Disk)> = disks.iter().enumerate().collect();
    candidates.sort_by_key(|(_, disk)| disk.mount_point());
    for (place, disk) in candidates {
        let name = text(disk.name());
        let mountpoint = text(disk.mount_point().as_os_str());
        let has_io = is_block_device(&name);
        let wanted = has_io || mountpoint == "/" || !cfg!(target_os = "linux");
        let device = name.strip_prefix("/dev/").unwrap_or(&name).to_owned();
        if !wanted || shown.iter().any(|known| known.device == device) {
            continue;
        }
        shown.push(Shown {
            place,
            device,
            mountpoint,
            kind: text(disk.file_system()),
            has_io,
        });
    }
    shown
}

fn is_block_device(name: &str) -> bool {
    const NOT_DISKS: &[&str] = &["loop", "ram", "zram", "fuse"];
    match name.strip_prefix("/dev/") {
        Some(device) => !NOT_DISKS.iter().any(|prefix| device.starts_with(prefix)),
        None => !cfg!(target_os = "linux"),
    }
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

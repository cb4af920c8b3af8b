//! The acceptance cases, through the front door: real processes, real sockets, real files.
//! Expected sets come from the sender's own record.

#[path = "front_door/access.rs"]
mod access;
#[path = "front_door/audit.rs"]
mod audit;
#[path = "front_door/clocks.rs"]
mod clocks;
#[path = "front_door/configuration.rs"]
mod configuration;
#[path = "front_door/copies.rs"]
mod copies;
#[path = "front_door/crash.rs"]
mod crash;
#[path = "front_door/delivery.rs"]
mod delivery;
#[path = "front_door/demo.rs"]
mod demo;
#[path = "front_door/disk.rs"]
mod disk;
#[path = "front_door/doctor.rs"]
mod doctor;
#[path = "front_door/doors.rs"]
mod doors;
#[path = "front_door/enrolment.rs"]
mod enrolment;
#[path = "front_door/files.rs"]
mod files;
#[path = "front_door/hostile.rs"]
mod hostile;
#[path = "front_door/ledger.rs"]
mod ledger;
#[path = "front_door/limits.rs"]
mod limits;
#[path = "front_door/lost.rs"]
mod lost;
#[path = "front_door/memory.rs"]
mod memory;
#[path = "front_door/newest.rs"]
mod newest;
#[path = "front_door/outage.rs"]
mod outage;
#[path = "front_door/owners.rs"]
mod owners;
#[path = "front_door/poison.rs"]
mod poison;
#[path = "front_door/probes.rs"]
mod probes;
#[path = "front_door/pruning.rs"]
mod pruning;
#[path = "front_door/queries.rs"]
mod queries;
#[path = "front_door/rate.rs"]
mod rate;
#[path = "front_door/secrets.rs"]
mod secrets;
#[path = "front_door/sensors.rs"]
mod sensors;
#[path = "front_door/silent.rs"]
mod silent;
#[path = "front_door/spool.rs"]
mod spool;
#[path = "front_door/stored.rs"]
mod stored;
#[path = "front_door/tls.rs"]
mod tls;
#[path = "front_door/unusable.rs"]
mod unusable;

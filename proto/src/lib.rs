//! What both programs must agree on: the messages of `weir.v1`, the limits every sink accepts,
//! and the codec between readings and a batch's payload.

pub mod batch;
pub mod codec;
pub mod limits;
pub mod reasons;
pub mod record;

/// The messages and services of `weir.v1`, generated from `weir/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[allow(clippy::clone_on_ref_ptr, clippy::too_many_lines)]
pub mod v1 {
    tonic::include_proto!("weir.v1");
}

/// The encoded `FileDescriptorSet` of everything in this crate, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

//! What a sink adds to a status where its code alone does not say enough: `google.rpc.ErrorInfo`. A program that does not
//! know a reason goes by the code.

/// The domain of each reason here.
pub const DOMAIN: &str = "weir.v1";

/// With PERMISSION_DENIED: an agent of another name began this stream. The agent itself is let in, with its other streams.
pub const FOREIGN_STREAM: &str = "FOREIGN_STREAM";

//! What we ship: the chart and what it says about settings, its pods, the images, the Debian package. Tools come from `make tools`.

#[path = "ship/arm64.rs"]
mod arm64;
#[path = "ship/chart.rs"]
mod chart;
#[path = "ship/engine.rs"]
mod engine;
#[path = "ship/images.rs"]
mod images;
#[path = "ship/operations.rs"]
mod operations;
#[path = "ship/package.rs"]
mod package;
#[path = "ship/packaging.rs"]
mod packaging;
#[path = "ship/pods.rs"]
mod pods;
#[path = "ship/tools.rs"]
mod tools;

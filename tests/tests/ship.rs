//! What we ship: the chart and what it says about settings, and the images. Tools come from `make tools`.

#[path = "ship/arm64.rs"]
mod arm64;
#[path = "ship/chart.rs"]
mod chart;
#[path = "ship/engine.rs"]
mod engine;
#[path = "ship/images.rs"]
mod images;
#[path = "ship/packaging.rs"]
mod packaging;
#[path = "ship/tools.rs"]
mod tools;
